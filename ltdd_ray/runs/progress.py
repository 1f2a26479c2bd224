"""Progress of a stage: a bar on a terminal, a line every few seconds in a log, or JSON lines."""

import json
import time
from collections.abc import Callable, Hashable, Sequence
from datetime import timedelta
from threading import Event, Lock, Thread
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_LOOKS = 1.0  # at whether a line is due
SECONDS_BETWEEN_RECORDS = 1.0


class StageState(NamedTuple):
    """``done`` of ``total`` units of work, and ``rate`` in units per second (None if unknown)."""

    stage: str
    done: float
    total: float
    unit: str
    rate: float | None
    note: str


class Progress(Protocol):
    """Counts the units of work that several workers finish.

    Each part of the work has a key. A part that starts again after a failure is counted from 0.
    """

    def update(self, key: Hashable, done: int, note: str) -> None:
        """``done`` units of the part ``key`` are finished; ``note`` describes the last one."""
        ...


class JsonProgress:
    """One line of JSON per update."""

    def __init__(self, stage: str, total: int, unit: str) -> None:
        self._what: dict[str, Any] = {
            "event": "progress",
            "stage": stage,
            "total": total,
            "unit": unit,
        }
        self._done: dict[Hashable, int] = {}

    def update(self, key: Hashable, done: int, note: str) -> None:
        self._done[key] = done
        print_json(**self._what, done=sum(self._done.values()), note=note)


def print_json(**event: Any) -> None:
    """Print one JSON object on one line of stdout and flush it."""
    print(json.dumps(event), flush=True)


class Meter:
    """Passes updates to ``progress``, and the state to ``listeners`` about once a second.

    A context manager. ``listeners`` also get the first and the last state.
    """

    def __init__(
        self,
        progress: Progress,
        stage: str,
        total: int,
        unit: str,
        listeners: Sequence[Callable[[StageState], None]],
    ) -> None:
        self._progress, self._listeners = progress, listeners
        self._state = StageState(stage, 0, total, unit, None, "")
        self._done: dict[Hashable, int] = {}
        self._began = time.monotonic()
        self._next = 0.0

    def __enter__(self) -> "Meter":
        self._tell()
        return self

    def __exit__(self, *_: object) -> None:
        self._tell()

    def update(self, key: Hashable, done: int, note: str) -> None:
        self._progress.update(key, done, note)
        self._done[key] = done
        together, seconds = sum(self._done.values()), time.monotonic() - self._began
        self._state = self._state._replace(
            done=together, rate=together / seconds if seconds > 0 else None, note=note
        )
        if time.monotonic() >= self._next:
            self._tell()

    def _tell(self) -> None:
        self._next = time.monotonic() + SECONDS_BETWEEN_RECORDS
        for listener in self._listeners:
            listener(self._state)


class StageProgress:
    """A bar on a terminal. Elsewhere a line every ten seconds, with rate and time left.

    A context manager. The lines go on while there are no updates, and tell for how long.
    """

    def __init__(self, stage: str, total: int, unit: str, console: Console) -> None:
        self._unit, self._console = unit, console
        self._done: dict[Hashable, int] = {}
        self._began = self._updated = self._printed = time.monotonic()
        self._printing, self._ended = Lock(), Event()
        self._reminder: Thread | None = None
        self._bar = Bar(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(stage, total=total, rate=unit, note="")

    def __enter__(self) -> "StageProgress":
        self._bar.start()
        if not self._console.is_terminal:
            self._reminder = Thread(target=self._remind, name="progress", daemon=True)
            self._reminder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._reminder is not None:
            self._reminder.join()
        self._bar.stop()

    def update(self, key: Hashable, done: int, note: str) -> None:
        self._done[key], self._updated = done, time.monotonic()
        task = self._bar.tasks[self._task]
        rate = f"{task.speed:.1f} {self._unit}/s" if task.speed else self._unit
        self._bar.update(self._task, completed=sum(self._done.values()), rate=rate, note=note)
        self._print_if_due(note)

    def _remind(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            now = time.monotonic()
            self._print_if_due(
                f"last update {now - self._updated:.0f} s ago"
                if self._done
                else f"no update yet after {now - self._began:.0f} s"
            )

    def _print_if_due(self, note: str) -> None:
        if self._console.is_terminal:
            return
        with self._printing:  # the reminder may print too
            if time.monotonic() - self._printed < SECONDS_BETWEEN_LINES:
                return
            self._printed = time.monotonic()
        task = self._bar.tasks[self._task]
        left = (
            f", {timedelta(seconds=round(task.time_remaining))} left" if task.time_remaining else ""
        )
        line = (
            f"{task.description}: {task.completed:g}/{task.total:g} {task.fields['rate']}{left}; "
            f"{note}"
        )
        self._console.print(line, soft_wrap=True, highlight=False)
