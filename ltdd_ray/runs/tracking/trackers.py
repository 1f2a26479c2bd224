"""Sends a run's parameters, metrics, images, results and files to the trackers of its config.

A tracker that cannot be reached when the first work starts is an error. One that fails later is
dropped with a sentence, since hours of work must not end with a server. ``tracking.json`` in the
run's folder holds the id of the run at each tracker, so that a resumed run goes on there.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text, write_json
from ltdd_ray.common.redact import mask, mask_tree
from ltdd_ray.config import RunConfig
from ltdd_ray.config.nested import leaves
from ltdd_ray.runs.tracking.mlflow import open_mlflow
from ltdd_ray.runs.tracking.tracker import IDS, End, Tracker
from ltdd_ray.runs.tracking.wandb import open_wandb

SECONDS_BETWEEN_SENDS = 2.0
FILES = (
    *("config.yaml", "run.json", "results.json", "report.html"),
    *("distilled/distilled.safetensors", "distilled/distilled.json"),
)


class Tracking:
    """The trackers of one run. Until :meth:`start` nothing is sent, nor without trackers."""

    def __init__(self, config: RunConfig, folder: Path, say: Callable[[str], None]) -> None:
        self._config, self._folder, self._say = config, folder, say
        self._trackers: dict[str, Tracker] = {}
        self._waiting: dict[int, Mapping[str, float]] = {}
        self._sent = 0.0

    def start(self) -> None:
        """Open the run at each tracker, once. Raises ``UserError`` for one that cannot be."""
        openers = _openers(self._config)
        if self._trackers or not openers:
            return
        known = _known_ids(self._folder / IDS)
        for name, opener in openers.items():
            self._trackers[name] = opener(self._config, self._folder, known.get(name))
        ids = {name: tracker.id for name, tracker in self._trackers.items()}
        write_json(self._folder / IDS, ids)
        tree = self._config.model_dump(mode="json", exclude={"tracking"})
        settings = {key: str(value) for key, value in leaves(mask_tree(tree))}
        fresh = {name for name, own in ids.items() if known.get(name) != own}
        self._each(lambda name, tracker: tracker.parameters(settings) if name in fresh else None)

    def update(self, update: int, metrics: Mapping[str, float]) -> None:
        """Send the metrics of one update, a few updates at a time."""
        self._waiting[update] = metrics
        if time.monotonic() - self._sent >= SECONDS_BETWEEN_SENDS:
            self._send()

    def image(self, name: str, make: Callable[[], Path]) -> None:
        """Send an image, which ``make`` writes for each tracker."""
        self._send()
        self._each(lambda _, tracker: tracker.image(name, make()))

    def stage_finished(self, stage: str, seconds: float) -> None:
        """Send the seconds of a stage."""
        self._send()
        self._each(lambda _, tracker: tracker.results({f"seconds/{stage}": seconds}))

    def results(self, results: Mapping[str, Any]) -> None:
        """Send the accuracies in the content of results.json."""
        numbers = accuracies(results)
        self._each(lambda _, tracker: tracker.results(numbers))

    def end(self, how: End) -> None:
        """Send the files there are, and close the runs."""
        self._send()
        for name in FILES:
            file = self._folder / name
            if file.exists():
                inside = str(Path(name).parent).removeprefix(".")
                self._each(lambda _, tracker: tracker.file(file, inside))  # noqa: B023
        self._each(lambda _, tracker: tracker.end(how))
        self._trackers = {}

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._sent = time.monotonic()
        if waiting:
            self._each(lambda _, tracker: tracker.metrics(waiting))

    def _each(self, call: Callable[[str, Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(name, tracker)
            except Exception as error:  # of any kind: a tracker must not end the run
                del self._trackers[name]
                self._say(
                    f"{name} failed and gets nothing more of this run: {mask(_first_line(error))}"
                )


def accuracies(results: Mapping[str, Any]) -> dict[str, float]:
    """The balanced accuracies in the content of results.json, 0..1, by set and group."""
    numbers = {}
    for name, one in results["sets"].items():
        numbers[f"accuracy/{name}"] = one["accuracy"]["mean"]
        for group, own in one["groups"].items():
            numbers[f"accuracy/{name}/{group}"] = own["mean"]
    return {name: value for name, value in numbers.items() if value is not None}


def _openers(config: RunConfig) -> dict[str, Callable[[RunConfig, Path, str | None], Tracker]]:
    both = {"mlflow": open_mlflow, "wandb": open_wandb}
    return {name: both[name] for name in both if getattr(config.tracking, name) is not None}


def _known_ids(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    try:
        return {name: str(own) for name, own in json.loads(read_text(file)).items()}
    except (ValueError, AttributeError, RecursionError):
        raise UserError(
            f"{file}: not the ids of runs at trackers; remove it to start new ones"
        ) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
