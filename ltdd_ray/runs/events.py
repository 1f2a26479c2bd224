"""Events and progress of a run, in files that ``ltdd-ray status`` reads.

``events.jsonl`` has a line per event, ``progress.json`` the progress of the current stage. The
event of a loss has ``losses``: the actors that were lost, how many of them were preempted, and the
incidents that count towards the allowed ones.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ltdd_ray.common.files import append_text, write_json
from ltdd_ray.common.redact import mask
from ltdd_ray.runs.output import Output
from ltdd_ray.runs.progress import Meter, Progress, StageState

EVENTS, PROGRESS = "events.jsonl", "progress.json"
# The events of Ctrl-C and SIGTERM, for a run of this machine and for a Ray job.
STOPPED, STOPPED_JOB = "stopped; the same command continues", "stopped; submit again to resume"


class LossNote(str):
    """A sentence about ``actors`` lost at once.

    ``preempted`` of them were; ``incidents`` says how many incidents they add to those counted.
    """

    def __new__(
        cls, sentence: str, *, actors: int = 1, preempted: int = 0, incidents: int = 0
    ) -> "LossNote":
        note = super().__new__(cls, sentence)
        note.losses = {"actors": actors, "preempted": preempted, "incidents": incidents}
        return note

    losses: dict[str, int]


def record_event(folder: Path, event: str, losses: dict[str, int] | None = None) -> None:
    """Append one event to ``events.jsonl`` of the run in ``folder``."""
    line = {"time": now(), "event": mask(event)} | ({"losses": losses} if losses else {})
    with append_text(folder / EVENTS) as file:
        file.write(json.dumps(line) + "\n")


def record_progress(folder: Path, state: StageState) -> None:
    """Replace the progress of the current stage."""
    write_json(folder / PROGRESS, {"time": now(), **state._asdict()})


class RecordingOutput:
    """An output that also writes events to ``folder``.

    ``listeners()`` is called for every stage; the functions it returns get the stage's progress.
    ``on_loss`` gets the stage and the note of every loss.
    """

    def __init__(
        self,
        output: Output,
        folder: Path,
        listeners: Callable[[], Sequence[Callable[[StageState], None]]],
        on_loss: Callable[[str, LossNote], None],
    ) -> None:
        self._output, self._folder, self._listeners = output, folder, listeners
        self._on_loss = on_loss

    def say(self, stage: str, sentence: str) -> None:
        losses = None
        if isinstance(sentence, LossNote):
            losses = sentence.losses
            self._on_loss(stage, sentence)
        record_event(self._folder, f"{stage}: {sentence}", losses)
        self._output.say(stage, mask(sentence))

    def stage(self, stage: str, state: str, artifact: str, seconds: float | None = None) -> None:
        record_event(
            self._folder, f"{stage}: {state}" + ("" if seconds is None else f" in {seconds:.0f} s")
        )
        self._output.stage(stage, state, mask(artifact), seconds)

    @contextmanager
    def progress(self, stage: str, total: int, unit: str) -> Iterator[Progress]:
        with (
            self._output.progress(stage, total, unit) as shown,
            Meter(shown, stage, total, unit, self._listeners()) as meter,
        ):
            yield meter

    def results(self, results: dict[str, Any], path: str) -> None:
        self._output.results(results, path)


def now() -> str:
    """The time as it is written everywhere: UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
