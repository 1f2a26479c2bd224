"""A run on Weights & Biases."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.runs.tracking.tracker import End


class WandbTracker:
    """See :class:`~ltdd_ray.runs.tracking.tracker.Tracker`."""

    def __init__(self, run: Any, folder: Path) -> None:
        self._run, self._folder, self.id = run, folder, run.id

    def parameters(self, values: Mapping[str, str]) -> None:
        self._run.config.update(dict(values))

    def metrics(self, values: Mapping[int, Mapping[str, float]]) -> None:
        for update, own in values.items():
            self._run.log({**own, "update": update})

    def results(self, values: Mapping[str, float]) -> None:
        self._run.summary.update(dict(values))

    def image(self, name: str, file: Path) -> None:
        self._run.log({name: import_module("wandb").Image(str(file))})

    def file(self, file: Path, folder: str) -> None:
        self._run.save(str(file), base_path=str(self._folder), policy="now")

    def end(self, how: End) -> None:
        self._run.finish(exit_code=0 if how == "finished" else 1, quiet=True)


def open_wandb(config: RunConfig, folder: Path, known: str | None) -> WandbTracker:
    """The run ``known``, or a new one where it is None.

    Raises ``UserError`` where the package is missing or the service cannot be used.
    """
    settings = config.tracking.wandb
    assert settings is not None
    try:
        wandb, failure = import_module("wandb"), import_module("wandb.errors").Error
    except ImportError:
        raise UserError(
            "tracking.wandb needs the package wandb, which is not installed; run `pip install "
            "ltdd-ray[wandb]`, or --set tracking.wandb=null"
        ) from None
    try:
        run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            mode=settings.mode,
            id=known,
            resume=None if known is None else "allow",
            name=config.name,
            dir=str(folder),
            settings=wandb.Settings(silent=True, console="off"),
        )
    except failure as error:
        raise UserError(
            f"tracking.wandb: the service cannot be used: {str(error).strip().splitlines()[0]}; "
            "run `wandb login`, --set tracking.wandb.mode=offline, or --set tracking.wandb=null"
        ) from None
    run.define_metric("*", step_metric="update")
    return WandbTracker(run, folder)
