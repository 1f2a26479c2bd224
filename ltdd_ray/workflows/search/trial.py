"""One trial: a distillation that stops now and then to be judged, resumes where it was killed, and leaves plain files.

trials/IDENTITY/  params.json               its number and values
                  update-000040/            the last checkpoint, with all reports up to it
                  stop                      asks a trial of several workers to end at its next report
                  outcome.json              how it ended; absent while it may go on
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ltdd_ray.common.device import default_device
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.common.files import write_json
from ltdd_ray.config import RunConfig
from ltdd_ray.config.identity import trial_fingerprint
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.metrics_log import UpdateReport
from ltdd_ray.distill.trajectory.loop import distill, snapshot
from ltdd_ray.distill.trajectory.synthetic import SyntheticSet
from ltdd_ray.workflows.search.evaluator import Judge
from ltdd_ray.workflows.search.space import Values, trial_config

Status = Literal["finished", "stopped", "diverged"]
REPORTS, STOP = "reports.json", "stop"
JUDGE = "margins"  # another way to judge is another trial


class Stopped(Exception):
    """The trial was asked to end."""


@dataclass(frozen=True)
class Report:
    """What the set was worth after ``update`` updates; 0 and ``diverged`` where the next update left the finite numbers."""

    update: int
    objective: float
    standard_error: float = 0.0
    diverged: bool = False


@dataclass(frozen=True)
class Outcome:
    status: Status
    objective: float
    standard_error: float
    update: int


@dataclass(frozen=True)
class TrialFolder:
    """The files of one trial. The trial writes its checkpoints, the driver all else."""

    path: Path
    number: int
    values: Values

    @classmethod
    def create(
        cls, parent: Path, config: RunConfig, data: PreparedData, number: int, values: Values
    ) -> "TrialFolder":
        """The folder of the trial with these values in a search with this config and data; what lies in it already stays."""
        folder = cls(parent / trial_identity(config, data, values), number, values)
        if not (folder.path / "params.json").exists():
            folder.path.mkdir(parents=True, exist_ok=True)
            write_json(folder.path / "params.json", {"number": number, "values": values})
        return folder

    @classmethod
    def known(cls, parent: Path, config: RunConfig, data: PreparedData) -> list["TrialFolder"]:
        """The trials under ``parent`` that belong to a search with this config and data, by number."""
        found = []
        for file in parent.glob("*/params.json"):
            params = json.loads(file.read_text())
            belongs = set(params["values"]) == set(config.search.space)
            if belongs and file.parent.name == trial_identity(config, data, params["values"]):
                found.append(cls(file.parent, params["number"], params["values"]))
        return sorted(found, key=lambda folder: folder.number)

    @property
    def outcome(self) -> Outcome | None:
        file = self.path / "outcome.json"
        return Outcome(**json.loads(file.read_text())) if file.exists() else None

    def end(self, status: Status, last: Report) -> None:
        write_json(
            self.path / "outcome.json",
            asdict(Outcome(status, last.objective, last.standard_error, last.update)),
        )

    def ask_to_stop(self) -> None:
        (self.path / STOP).touch()

    def told_to_stop(self, rank: int, world_size: int) -> bool:
        """Whether :meth:`ask_to_stop` was called, as rank 0 sees it: the same on every rank."""
        told = torch.tensor(
            (self.path / STOP).exists() and rank == 0, dtype=torch.uint8, device=default_device()
        )
        if world_size > 1:
            torch.distributed.broadcast(told, src=0)
        return bool(told)

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the last whole checkpoint."""
        return max(self.path.glob("update-*"), default=None)

    @property
    def reports(self) -> list[Report]:
        """All reports up to the last whole checkpoint."""
        checkpoint = self.checkpoint
        return (
            [Report(**one) for one in json.loads((checkpoint / REPORTS).read_text())]
            if checkpoint
            else []
        )

    def keep(self, write: Callable[[Path], None], reports: list[Report]) -> None:
        """Replace the checkpoint by what ``write`` puts into a folder; whoever is killed here leaves the old one or the new one."""
        draft, old = self.path / ".draft", self.checkpoint
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        write(draft)
        write_json(draft / REPORTS, [asdict(one) for one in reports])
        draft.replace(self.path / f"update-{reports[-1].update:07d}")
        if old:
            shutil.rmtree(old)


def trial_identity(config: RunConfig, data: PreparedData, values: Values) -> str:
    """Hash of all that decides what the trial reports."""
    resolved = trial_config(config, values)
    return trial_fingerprint(resolved, data.train.fingerprint, data.evaluation.fingerprint, JUDGE)


def run_trial(
    config: RunConfig,
    data: PreparedData,
    folder: TrialFolder,
    on_report: Callable[[Report], None],
    rank: int = 0,
    world_size: int = 1,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
) -> None:
    """Repeat the reports the folder holds, then distil on from its checkpoint, judging the set at every further one.

    ``config`` is the search's. ``rank``, ``world_size`` and ``wrap`` are those of
    :func:`~ltdd_ray.distill.trajectory.loop.distill`; every rank reports equally often, rank 0 alone knows
    the objective and writes.
    """
    config = trial_config(config, folder.values)
    reports, resume_from = folder.reports, folder.checkpoint
    for report in reports:
        on_report(report)
    if reports and reports[-1].update == config.distill.updates:
        return
    judge = Judge(config, data) if rank == 0 else None
    present: tuple[int, SyntheticSet] | None = None

    def on_update(report: UpdateReport, synthetic: SyntheticSet) -> None:
        nonlocal present
        present = report.update, synthetic

    def on_checkpoint(write: Callable[[Path], None], update: int) -> None:
        report = Report(update, 0.0)
        if judge and present:
            worth = judge.worth(snapshot(config, data, present[1], update))
            report = Report(update, worth.accuracy, worth.standard_error)
            reports.append(report)
            folder.keep(write, reports)
        on_report(report)
        if folder.told_to_stop(rank, world_size):
            raise Stopped

    def on_initial(*_: Any) -> None:
        """The initial set is the same for all trials."""

    try:
        distill(
            config,
            data,
            on_update=on_update,
            on_checkpoint=on_checkpoint,
            on_initial=on_initial,
            rank=rank,
            world_size=world_size,
            wrap=wrap,
            resume_from=resume_from,
        )
    except Stopped:
        return
    except NonFiniteLossError:  # on every rank at once
        on_report(
            Report(
                present[0] if present else reports[-1].update if reports else 0, 0.0, diverged=True
            )
        )
