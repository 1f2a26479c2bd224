"""A sign of life of the process that drives a run: ``heartbeat.json``, written once a second.

The file exists while the process works. One that has become old was left by a process that was
killed. Content: ``time`` of the beat, ``waits_for`` and ``since`` (both null while nothing is
waited for).
"""

from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from ltdd_ray.common.files import write_json
from ltdd_ray.runs.events import now

HEARTBEAT = "heartbeat.json"
SECONDS_BETWEEN_BEATS = 1.0


class Heartbeat:
    """Writes the file from a thread within a ``with`` block, and removes it at the end."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / HEARTBEAT
        self._wait: tuple[str, str] | None = None
        self._ended = Event()

    def waits_for(self, what: str | None) -> None:
        """Tell what the run waits for from now on; None if it goes on."""
        if what is None:
            self._wait = None
        elif self._wait is None or self._wait[0] != what:
            self._wait = (what, now())

    def __enter__(self) -> "Heartbeat":
        for left in self._file.parent.glob(f".{HEARTBEAT}.*.tmp"):  # by a process that was killed
            left.unlink(missing_ok=True)
        self._ended.clear()
        self._thread = Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _beat(self) -> None:
        while True:
            waits_for, since = self._wait or (None, None)
            with suppress(OSError):  # a full disk ends the run where it writes its own files
                write_json(self._file, {"time": now(), "waits_for": waits_for, "since": since})
            if self._ended.wait(SECONDS_BETWEEN_BEATS):
                return
