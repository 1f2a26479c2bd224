"""What travels from slice to slice: per unfinished run one checkpoint, and ``results.json`` with all that was found so far.

results.json            {"runs": {NAME: {"identity", "finished", "slices", "networks", "accuracy"}}}
NAME/000125/            a checkpoint after 125 updates, whole where it has its progress.json
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from safetensors.torch import load_file

from ltdd_ray.bench.headline.plan import Run
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_json
from ltdd_ray.common.hardware import describe_hardware
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checkpoint import PROGRESS, STATE
from ltdd_ray.distill.trajectory.loop import snapshot
from ltdd_ray.distill.trajectory.synthetic import SyntheticSet
from ltdd_ray.evaluate.train import NetworkResult


@dataclass(frozen=True)
class State:
    """The folder that travels."""

    folder: Path

    @classmethod
    def begin(cls, folder: Path, carried: Path | None, runs: list[Run]) -> "State":
        """``folder``, with what ``carried`` holds of unfinished ``runs``.

        Raises ``UserError`` where a carried run had other settings.
        """
        state = cls(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if carried is not None and not (folder / "results.json").exists():
            write_json(folder / "results.json", cls(carried)._results())
            for run in runs:
                if not state.finished(run) and (latest := cls(carried).checkpoint(run)):
                    shutil.copytree(latest, folder / run.name / latest.name)
        for run in runs:
            if state.entry(run).get("identity", run.identity) != run.identity:
                raise UserError(
                    f"{folder}: {run.name} was begun with other settings; give the same, or another folder"
                )
        return state

    def checkpoint(self, run: Run) -> Path | None:
        """The latest whole one."""
        found = sorted((self.folder / run.name).glob(f"*/{PROGRESS}"))
        return found[-1].parent if found else None

    def updates(self, run: Run) -> int:
        """How many are done."""
        latest = self.checkpoint(run)
        return json.loads((latest / PROGRESS).read_text())["update"] if latest else 0

    def keep_checkpoint(self, run: Run, write: Any, update: int) -> None:
        """Have ``write`` put one into a new folder, and drop those before it."""
        place = self.folder / run.name / f"{update:06}"
        place.mkdir(parents=True, exist_ok=True)
        write(place)
        for older in place.parent.iterdir():
            if older != place:
                shutil.rmtree(older)

    def distilled(self, run: Run, data: PreparedData) -> DistilledSet:
        """The set of the latest checkpoint."""
        latest = self.checkpoint(run)
        assert latest is not None
        tensors = load_file(latest / STATE)
        synthetic = SyntheticSet(
            tensors["images"], tensors["labels"], tensors["classes"], float(tensors["log_lr"].exp())
        )
        return snapshot(run.config, data, synthetic, self.updates(run))

    def entry(self, run: Run) -> dict[str, Any]:
        return self._results()["runs"].get(run.name, {})

    def finished(self, run: Run) -> bool:
        return self.entry(run).get("finished", False)

    def networks(self, run: Run) -> list[NetworkResult]:
        return [NetworkResult.from_json(found) for found in self.entry(run).get("networks", [])]

    def add_network(self, run: Run, found: NetworkResult) -> None:
        networks = [*self.networks(run), found]
        finished = len(networks) == run.config.evaluate.networks * len(run.config.evaluate.sets)
        accuracies = [100 * network.accuracy for network in networks]
        spread = stdev(accuracies) if len(accuracies) > 1 else 0.0
        accuracy = {"mean": mean(accuracies), "std": spread, "networks": len(accuracies)}
        self._write(
            run,
            networks=[asdict(network) for network in networks],
            accuracy=accuracy,
            finished=finished,
        )

    def add_time(
        self, run: Run, precision: str, stage: str, seconds: float, **numbers: float
    ) -> None:
        """Note what a slice did for ``run``."""
        machine = {**describe_hardware(), "torch": torch.__version__}
        done = {
            "stage": stage,
            "seconds": round(seconds, 1),
            "precision": precision,
            **numbers,
            "machine": machine,
        }
        self._write(run, slices=[*self.entry(run).get("slices", []), done])

    def _write(self, run: Run, **changes: Any) -> None:
        results = self._results()
        results["runs"][run.name] = {"identity": run.identity, **self.entry(run), **changes}
        write_json(self.folder / "results.json", results)

    def _results(self) -> dict[str, Any]:
        file = self.folder / "results.json"
        return json.loads(file.read_text()) if file.exists() else {"runs": {}}
