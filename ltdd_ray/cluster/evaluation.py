"""Evaluating networks on Ray actors; each finished one is a file, so that a resumed run repeats only the missing ones."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_json
from ltdd_ray.config import RunConfig
from ltdd_ray.config.identity import network_fingerprint
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.evaluate.train import (
    EvaluationReport,
    NetworkResult,
    evaluate_network,
    rehearse_networks,
)
from ltdd_ray.nn.networks import build_network
from ltdd_ray.runs.folder import RunFolder


@dataclass(frozen=True)
class Record:
    """The file of one evaluated network; ``identity`` hashes the config, the data and the distilled set it was measured with."""

    file: Path
    set_name: str
    model: str
    network: int
    identity: str

    @property
    def task(self) -> tuple[str, str, int]:
        return self.set_name, self.model, self.network

    def read(self) -> NetworkResult | None:
        """The result; None where there is none yet, or one of another distilled set."""
        try:
            content = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return None
        return (
            NetworkResult.from_json(content["result"])
            if content.get("identity") == self.identity
            else None
        )

    def write(self, result: NetworkResult) -> None:
        self.file.parent.mkdir(exist_ok=True)
        write_json(self.file, {"identity": self.identity, "result": result.to_json()})


def plan_networks(config: RunConfig, data: PreparedData, folder: RunFolder) -> list[Record]:
    """Every network of the evaluation: set by set with the run's own architecture, then the others on the first set.

    A set that is to be distilled must exist.
    """
    distilled = (
        hashlib.sha256((folder.distilled / "distilled.safetensors").read_bytes()).hexdigest()
        if config.distils
        else ""
    )
    identity = network_fingerprint(
        config, data.train.fingerprint, data.evaluation.fingerprint, distilled
    )
    sets = config.evaluate.sets
    own, *others = config.evaluation_models
    pairs = [(name, own, name) for name in sets] + [
        (sets[0], label, f"{sets[0]}-{label}") for label in others
    ]
    return [
        Record(folder.evaluation / f"{stem}-{network}.json", set_name, model, network, identity)
        for set_name, model, stem in pairs
        for network in range(config.evaluate.networks)
    ]


def require_models(config: RunConfig, data: PreparedData) -> None:
    """Raise ``UserError`` where the images are too small for an architecture of the evaluation."""
    shape, classes = data.train.image_shape, data.train.num_classes
    build_network(config.model, shape, classes, seed=0)
    for model in config.evaluate.models:
        try:
            build_network(model, shape, classes, seed=0)
        except UserError as error:
            raise UserError(f"evaluate.models: {error}; or leave {model.label} out") from None


def evaluate_networks(
    config: RunConfig,
    data: PreparedData,
    records: Sequence[Record],
    on_report: Callable[[EvaluationReport | str], None],
) -> int:
    """Train and measure the network of each of ``records`` and write its file.

    ``on_report`` gets a report per epoch, and a sentence where actors are packed on GPUs. Returns the peak memory of the largest
    actor in bytes. Errors are those of :func:`~ltdd_ray.cluster.pool.run_tasks`.
    """
    by_task = {record.task: record for record in records}
    peak = 0
    for outcome in run_tasks(
        evaluate_network,
        list(by_task),
        shared=(config, data),
        compute=config.compute,
        on_report=on_report,
        rehearse=rehearse_networks,
    ):
        by_task[outcome.task].write(outcome.result)
        peak = max(peak, outcome.peak_memory)
    return peak
