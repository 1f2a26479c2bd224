"""Progress of a stage: a bar on a terminal, now and then a line elsewhere; always with rate and time left."""

import time
from collections.abc import Callable, Hashable, Sequence
from datetime import timedelta
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_RECORDS = 1.0


class Progress(NamedTuple):
    """``done`` of ``total`` units of a stage's work, ``rate`` of them a second (None while unknown)."""

    stage: str
    done: float
    total: float
    unit: str
    rate: float | None
    note: str


class StageProgress:
    """Counts the units of work that several workers finish; to be used as a context manager.

    Each worker's part goes by a key, so that a part begun anew after a death counts from its beginning again. ``listeners`` hear
    of the progress at the beginning, the end and about once a second.
    """

    def __init__(
        self, stage: str, total: int, unit: str, console: Console, listeners: Sequence[Callable[[Progress], None]] = ()
    ) -> None:
        self._unit, self._console, self._listeners = unit, console, listeners
        self._note, self._next_record = "", 0.0
        self._done: dict[Hashable, int] = {}
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        self._bar = Bar(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(stage, total=total, rate="", note="")

    def __enter__(self) -> "StageProgress":
        self._bar.start()
        self._record()
        return self

    def __exit__(self, *_: object) -> None:
        self._record()
        self._bar.stop()

    def update(self, key: Hashable, done: int, note: str) -> None:
        """``done`` units of the part ``key`` are finished; ``note`` says what just happened."""
        self._done[key] = done
        task = self._bar.tasks[self._task]
        rate = f"{task.speed:.1f} {self._unit}/s" if task.speed else self._unit
        self._bar.update(self._task, completed=sum(self._done.values()), rate=rate, note=note)
        self._note = note
        if time.monotonic() >= self._next_record:
            self._record()
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            left = f", {timedelta(seconds=round(task.time_remaining))} left" if task.time_remaining else ""
            self._console.print(f"{task.description}: {task.completed:g}/{task.total:g} {rate}{left}; {note}", highlight=False)

    def _record(self) -> None:
        self._next_record = time.monotonic() + SECONDS_BETWEEN_RECORDS
        task = self._bar.tasks[self._task]
        progress = Progress(task.description, task.completed, task.total or 0, self._unit, task.speed, self._note)
        for listener in self._listeners:
            listener(progress)
