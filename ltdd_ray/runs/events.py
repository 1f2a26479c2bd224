"""Events and progress of a run, in files that ``ltdd-ray status`` reads.

``events.jsonl`` has a line per event, ``progress.json`` the progress of the current stage.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ltdd_ray.common.files import write_json
from ltdd_ray.common.redact import mask
from ltdd_ray.runs.output import Output
from ltdd_ray.runs.progress import Meter, Progress, StageState

EVENTS, PROGRESS = "events.jsonl", "progress.json"


def record_event(folder: Path, event: str) -> None:
    """Append one event to ``events.jsonl`` of the run in ``folder``."""
    with (folder / EVENTS).open("a") as file:
        file.write(json.dumps({"time": _now(), "event": mask(event)}) + "\n")


def record_progress(folder: Path, state: StageState) -> None:
    """Replace the progress of the current stage."""
    write_json(folder / PROGRESS, {"time": _now(), **state._asdict()})


class RecordingOutput:
    """An output that also writes events to ``folder``.

    ``listeners()`` is called for every stage; the functions it returns get the stage's progress.
    """

    def __init__(
        self,
        output: Output,
        folder: Path,
        listeners: Callable[[], Sequence[Callable[[StageState], None]]],
    ) -> None:
        self._output, self._folder, self._listeners = output, folder, listeners

    def say(self, stage: str, sentence: str) -> None:
        record_event(self._folder, f"{stage}: {sentence}")
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
