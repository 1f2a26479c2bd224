"""The output of a run: lines, progress bars and a table, or one JSON object per line."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from rich.console import Console

from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.evaluate.results import architectures_table, results_table
from ltdd_ray.runs.progress import JsonProgress, Progress, StageProgress, print_json


class Output(Protocol):
    """What the pipeline calls."""

    def say(self, stage: str, sentence: str) -> None:
        """Show a message of ``stage``."""
        ...

    def stage(self, stage: str, state: str, artifact: str, seconds: float | None = None) -> None:
        """Show that ``stage`` is "finished", after ``seconds``, or was "already finished".

        ``artifact`` is the place of its result.
        """
        ...

    def progress(self, stage: str, total: int, unit: str) -> AbstractContextManager[Progress]:
        """A counter for the ``total`` units of work of a stage."""
        ...

    def results(self, results: dict[str, Any], path: str) -> None:
        """Show the content of results.json, which is at ``path``. This is the last call."""
        ...


class TextOutput:
    """Text for a terminal or a log; nothing at all if ``quiet``."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self._console = console or PlainConsole(quiet=quiet)

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
    """JSON lines on stdout; ``event`` is one of note, progress, stage and results."""

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
        measured = {
            key: results[key] for key in ("accuracy", "accuracy_over_images") if key in results
        }
        print_json(event="results", path=path, **measured)
