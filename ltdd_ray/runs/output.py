"""How a run tells what it does: to people as lines, bars and a table, to programs as one JSON object per line."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from rich.console import Console

from ltdd_ray.evaluate.results import architectures_table, results_table
from ltdd_ray.runs.progress import JsonProgress, Progress, StageProgress, print_json


class Output(Protocol):
    """What a pipeline needs of either."""

    def say(self, stage: str, sentence: str) -> None:
        """Something worth knowing that happened within ``stage``."""
        ...

    def stage(self, stage: str, state: str, artifact: str, seconds: float | None = None) -> None:
        """``stage`` is "finished" (after ``seconds`` of work) or was "already finished"; ``artifact`` is what it left."""
        ...

    def progress(self, stage: str, total: int, unit: str) -> AbstractContextManager[Progress]:
        """What counts the ``total`` units of work of a stage."""
        ...

    def results(self, results: dict[str, Any], path: str) -> None:
        """The content of results.json and where it lies; the last thing said."""
        ...


class TextOutput:
    """For people; ``quiet`` says nothing at all."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self._console = console or Console(quiet=quiet)

    def say(self, stage: str, sentence: str) -> None:
        self._console.print(f"{stage}: {sentence}", soft_wrap=True, highlight=False)

    def stage(self, stage: str, state: str, artifact: str, seconds: float | None = None) -> None:
        duration = "" if seconds is None else f" in {seconds:.0f} s"
        self.say(stage, f"{state}{duration}, {artifact}")

    def progress(self, stage: str, total: int, unit: str) -> AbstractContextManager[Progress]:
        return StageProgress(stage, total, unit, self._console)

    def results(self, results: dict[str, Any], path: str) -> None:
        self._console.print(results_table(results))
        if "cross_architecture" in results:
            self._console.print(architectures_table(results))


class JsonOutput:
    """For programs: every line of stdout is an object with an ``event``: note, progress, stage or results."""

    def say(self, stage: str, sentence: str) -> None:
        print_json(event="note", stage=stage, text=sentence)

    def stage(self, stage: str, state: str, artifact: str, seconds: float | None = None) -> None:
        print_json(
            event="stage",
            stage=stage,
            state=state,
            artifact=artifact,
            seconds=seconds and round(seconds, 2),
        )

    def progress(self, stage: str, total: int, unit: str) -> AbstractContextManager[Progress]:
        return nullcontext(JsonProgress(stage, total, unit))

    def results(self, results: dict[str, Any], path: str) -> None:
        print_json(event="results", path=path, accuracy=results["accuracy"])
