"""How long a slice may go on."""

import time
from dataclasses import dataclass


class SliceOverError(Exception):
    """The slice's time is over; what is done is saved, and the same command goes on from there."""


@dataclass(frozen=True)
class Clock:
    """``end`` on the monotonic clock, seconds."""

    end: float

    @classmethod
    def of(cls, minutes: float) -> "Clock":
        return cls(time.monotonic() + 60 * minutes)

    def allows(self, seconds: float) -> bool:
        """Whether work of that length would still be done in time."""
        return time.monotonic() + seconds < self.end

    def require(self, seconds: float = 0.0) -> None:
        """Raise :class:`SliceOverError` where it would not."""
        if not self.allows(seconds):
            raise SliceOverError
