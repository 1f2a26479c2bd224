"""One trial of a search: a distillation that is scored at intervals.

A killed trial resumes from its last checkpoint. All its files are plain JSON and safetensors:

trials/IDENTITY/  params.json      number and values of the trial
                  update-0000040/  the last checkpoint, with all reports up to it
                  stop             asks a trial of several workers to end at its next report
                  outcome.json     how the trial ended; absent while it is unfinished
"""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from ltdd_ray.common.device import default_device
from ltdd_ray.common.errors import NonFiniteLossError, UserError
from ltdd_ray.common.files import read_text, write_json
from ltdd_ray.config import RunConfig
from ltdd_ray.config.identity import trial_fingerprint
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.metrics_log import UpdateReport
from ltdd_ray.distill.trajectory.loop import distill, snapshot
from ltdd_ray.distill.trajectory.synthetic import SyntheticSet
from ltdd_ray.workflows.search.evaluator import search_evaluator
from ltdd_ray.workflows.search.space import Values, in_space, trial_config

Status = Literal["finished", "stopped", "diverged"]
REPORTS, STOP = "reports.json", "stop"
# Part of a trial's identity. Change it with the evaluator or with the format of the files.
EVALUATOR = "margins-2"


class Stopped(Exception):
    """The trial was asked to end."""


@dataclass(frozen=True)
class TrialReport:
    """The score of the set after ``update`` updates.

    ``diverged``: the next update was not finite. The score is then 0.
    """

    update: int
    score: float
    standard_error: float = 0.0
    diverged: bool = False


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended, with its last score."""

    status: Status
    score: float
    standard_error: float
    update: int


_Content = TypeVar("_Content")


def _parsed(file: Path, build: Callable[[Any], _Content]) -> _Content:
    """What ``build`` makes of a JSON file of a trial. Raises ``UserError`` for an altered one."""
    try:
        return build(json.loads(read_text(file)))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{file}: not readable as a part of a trial; delete the folder of the trial, the one "
            "below `trials`, and search again"
        ) from None


@dataclass(frozen=True)
class TrialFolder:
    """The files of one trial. The trial writes its checkpoints; the driver writes the rest."""

    path: Path
    number: int
    values: Values

    @classmethod
    def create(
        cls, parent: Path, config: RunConfig, data: PreparedData, number: int, values: Values
    ) -> "TrialFolder":
        """The folder of a new trial with these values.

        A search over other keys may have tried them. Its checkpoint is kept, so that the trial goes
        on from there.
        """
        folder = cls(parent / trial_identity(config, data, values), number, values)
        folder.path.mkdir(parents=True, exist_ok=True)
        for old in ("outcome.json", STOP):
            (folder.path / old).unlink(missing_ok=True)
        write_json(folder.path / "params.json", {"number": number, "values": values})
        return folder

    @classmethod
    def known(cls, parent: Path, config: RunConfig, data: PreparedData) -> list["TrialFolder"]:
        """The trials under ``parent`` that belong to this config and data, by number."""
        trials = cls.of_keys(parent, config, data)
        return [trial for trial in trials if in_space(config.search, trial.values)]

    @classmethod
    def of_keys(cls, parent: Path, config: RunConfig, data: PreparedData) -> list["TrialFolder"]:
        """The :meth:`known` trials and those whose values an edit of the space has left outside."""
        found = []
        for file in parent.glob("*/params.json"):
            number, values = _parsed(file, lambda p: (int(p["number"]), dict(p["values"])))
            if set(values) != set(config.search.space):
                continue
            with suppress(UserError):  # values of an old space may be invalid in this config
                if file.parent.name == trial_identity(config, data, values):
                    found.append(cls(file.parent, number, values))
        return sorted(found, key=lambda folder: folder.number)

    @property
    def outcome(self) -> TrialOutcome | None:
        file = self.path / "outcome.json"
        return _parsed(file, lambda content: TrialOutcome(**content)) if file.exists() else None

    def end(self, status: Status, last: TrialReport) -> None:
        write_json(
            self.path / "outcome.json",
            asdict(TrialOutcome(status, last.score, last.standard_error, last.update)),
        )

    def ask_to_stop(self) -> None:
        (self.path / STOP).touch()

    def told_to_stop(self, rank: int, world_size: int) -> bool:
        """Whether :meth:`ask_to_stop` was called. Rank 0 looks and tells the other ranks."""
        told = torch.tensor(
            (self.path / STOP).exists() and rank == 0, dtype=torch.uint8, device=default_device()
        )
        if world_size > 1:
            torch.distributed.broadcast(told, src=0)
        return bool(told)

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the last complete checkpoint."""
        return max(self.path.glob("update-*"), default=None)

    @property
    def reports(self) -> list[TrialReport]:
        """All reports up to the last complete checkpoint."""
        checkpoint = self.checkpoint
        return (
            _parsed(checkpoint / REPORTS, lambda lines: [TrialReport(**one) for one in lines])
            if checkpoint
            else []
        )

    def keep(self, write: Callable[[Path], None], reports: list[TrialReport]) -> None:
        """Replace the checkpoint with a folder that ``write`` fills, and add the reports.

        A process that is killed here leaves the old checkpoint or the new one.
        """
        draft, old = self.path / ".draft", self.checkpoint
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        write(draft)
        write_json(draft / REPORTS, [asdict(one) for one in reports])
        draft.replace(self.path / f"update-{reports[-1].update:07d}")
        if old:
            shutil.rmtree(old)


def trial_identity(config: RunConfig, data: PreparedData, values: Values) -> str:
    """Hash of everything that decides the reports of a trial."""
    resolved = trial_config(config, values)
    return trial_fingerprint(
        resolved, data.train.fingerprint, data.evaluation.fingerprint, EVALUATOR
    )


def run_trial(
    config: RunConfig,
    data: PreparedData,
    folder: TrialFolder,
    on_report: Callable[[TrialReport], None],
    rank: int = 0,
    world_size: int = 1,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
) -> None:
    """Send the saved reports again, then distil from the checkpoint, scoring each new one.

    ``config`` is that of the search. ``rank``, ``world_size`` and ``wrap`` are those of
    :func:`~ltdd_ray.distill.trajectory.loop.distill`. Every rank sends the same number of reports.
    Only rank 0 computes scores and writes files.
    """
    config = trial_config(config, folder.values)
    reports, resume_from = folder.reports, folder.checkpoint
    for report in reports:
        on_report(report)
    if reports and reports[-1].update == config.distill.updates:
        return
    evaluator = search_evaluator(config, data) if rank == 0 else None
    present: tuple[int, SyntheticSet] | None = None

    def on_update(report: UpdateReport, synthetic: SyntheticSet) -> None:
        nonlocal present
        present = report.update, synthetic

    def on_checkpoint(write: Callable[[Path], None], update: int) -> None:
        report = TrialReport(update, 0.0)
        if evaluator and present:
            score = evaluator.score(snapshot(config, data, present[1], update))
            report = TrialReport(update, score.accuracy, score.standard_error)
            reports.append(report)
            folder.keep(write, reports)
        on_report(report)
        if folder.told_to_stop(rank, world_size):
            raise Stopped

    def on_initial(*_: Any) -> None:
        """The initial set is the same for all trials and is not kept."""

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
        update = present[0] if present else reports[-1].update if reports else 0
        on_report(TrialReport(update, 0.0, diverged=True))
