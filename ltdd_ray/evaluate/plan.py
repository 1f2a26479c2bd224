"""Which networks a run evaluates, and the file that each finished one leaves.

A resumed run reads these files and repeats only the networks that have none.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_bytes, read_text, write_json
from ltdd_ray.config import RunConfig
from ltdd_ray.config.identity import fingerprint, network_fingerprint
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.evaluate.train import NetworkResult
from ltdd_ray.nn.networks import build_network

SET_HASH = "distilled_sha256"  # in results.json: the set that the networks were trained on


@dataclass(frozen=True)
class NetworkRecord:
    """The file of one evaluated network.

    ``identity`` hashes what decides the result: the config, the data, the distilled set and the
    architecture. The other networks of a run do not enter, so some can be added later.
    """

    file: Path
    set_name: str
    model: str
    network: int
    identity: str

    @property
    def task(self) -> tuple[str, str, int]:
        """The arguments of :func:`~ltdd_ray.evaluate.train.evaluate_network` for this network."""
        return self.set_name, self.model, self.network

    def read(self) -> NetworkResult | None:
        """The result, or None if the file is missing, damaged or of another ``identity``."""
        try:
            content = json.loads(read_text(self.file))
            return (
                NetworkResult.from_json(content["result"])
                if content["identity"] == self.identity
                else None
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, result: NetworkResult) -> None:
        self.file.parent.mkdir(exist_ok=True)
        write_json(self.file, {"identity": self.identity, "result": result.to_json()})


def plan_networks(config: RunConfig, data: PreparedData, folder: Path) -> list[NetworkRecord]:
    """List all networks of the evaluation of the run in ``folder``.

    The run's own architecture comes first, on every set; the other architectures follow, on the
    first set only. If the config distils, the distilled set must exist.
    """
    distilled = hash_of_set(distilled_file(folder)) if config.distils else ""
    on = data.train.fingerprint, data.evaluation.fingerprint, distilled
    identities = {
        label: network_fingerprint(config, model, *on)
        for label, model in config.evaluation_models.items()
    }
    sets = config.evaluate.sets
    own, *others = config.evaluation_models
    pairs = [(name, own, name) for name in sets] + [
        (sets[0], label, f"{sets[0]}-{label}") for label in others
    ]
    return [
        NetworkRecord(
            folder / "evaluation" / f"{stem}-{network}.json",
            set_name,
            model,
            network,
            identities[model],
        )
        for set_name, model, stem in pairs
        for network in range(config.evaluate.networks)
    ]


def evaluation_identity(planned: Sequence[NetworkRecord]) -> str:
    """Identity of the results of all ``planned`` networks together."""
    return fingerprint([[record.file.name, record.identity] for record in planned])


def distilled_file(folder: Path) -> Path:
    """The file of the distilled set of the run in ``folder``."""
    return folder / "distilled" / "distilled.safetensors"


def hash_of_set(file: Path) -> str:
    """SHA-256 of the file, as results.json has it under :data:`SET_HASH`."""
    return hashlib.sha256(read_bytes(file)).hexdigest()


def measured_on(results: Mapping[str, Any], file: Path) -> bool:
    """Whether ``results`` may be those of the distilled set in ``file``.

    Results of older versions, and those of runs without a distilled set, name none.
    """
    recorded = results.get(SET_HASH)
    return recorded is None or not file.is_file() or recorded == hash_of_set(file)


def require_models(config: RunConfig, data: PreparedData) -> None:
    """Raise ``UserError`` if the images are too small for an architecture of the evaluation."""
    shape, classes = data.train.image_shape, data.train.num_classes
    build_network(config.model, shape, classes, seed=0)
    for model in config.evaluate.models:
        try:
            build_network(model, shape, classes, seed=0)
        except UserError as error:
            raise UserError(f"evaluate.models: {error}; or leave {model.label} out") from None
