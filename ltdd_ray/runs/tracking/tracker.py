"""What a tracker does with one run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

IDS = "tracking.json"
End = Literal["finished", "failed", "stopped"]


class Tracker(Protocol):
    """One run at one tracker. ``id`` names it there."""

    id: str

    def parameters(self, values: Mapping[str, str]) -> None:
        """Record the settings of a new run, by dotted key."""
        ...

    def metrics(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """Record numbers by name, for each update."""
        ...

    def results(self, values: Mapping[str, float]) -> None:
        """Record the numbers that sum up the run, by name."""
        ...

    def image(self, name: str, file: Path) -> None:
        """Record the image in ``file``."""
        ...

    def file(self, file: Path, folder: str) -> None:
        """Record a file below ``folder``, empty for the top."""
        ...

    def end(self, how: End) -> None:
        """Close the run; it may be opened again by its id."""
        ...
