"""Small trajectories for the tests of the store."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from ltdd_ray.common.layout import Parameter, ParameterLayout
from ltdd_ray.store import TrajectoryHeader, TrajectoryWriter


def make_layout(backbone: int = 6, classifier: int = 4) -> ParameterLayout:
    return ParameterLayout(
        (
            Parameter("body.weight", (backbone,), 0),
            Parameter("classifier.weight", (classifier,), backbone),
        ),
        backbone_size=backbone,
    )


def make_header(expert: int = 0, stage="representation", **changes) -> TrajectoryHeader:
    values = {
        "identity": f"identity-{expert}-{stage}",
        "config_fingerprint": "config",
        "dataset_fingerprint": "dataset",
        "layout": make_layout(),
        "class_counts": (50, 5),
        "seed": 2**62 + 1,
    }
    return TrajectoryHeader(expert=expert, stage=stage, **values | changes)


def vectors(header: TrajectoryHeader, epoch: int) -> dict[str, np.ndarray]:
    """What :func:`write` stores for an epoch: a function of expert, stage and epoch."""
    rng = np.random.default_rng([header.expert, len(header.stage), epoch])
    return {
        name: rng.standard_normal(size).astype(header.dtype)
        for name, size in header.columns().items()
    }


def write(uri: str | Path, header: TrajectoryHeader, epochs=range(4)) -> None:
    with TrajectoryWriter(str(uri), header) as writer:
        for epoch in epochs:
            writer.append(
                epoch,
                **vectors(header, epoch),
                metrics={"train_loss": 1.0 / (epoch + 1), "test_accuracy": 0.25},
            )


def data_file(store: Path, expert: int = 0, stage: str = "representation") -> Path:
    (path,) = store.glob(f"expert-{expert:04d}.{stage}.*.arrow")
    return path


def manifest_file(store: Path, expert: int = 0, stage: str = "representation") -> Path:
    return store / f"expert-{expert:04d}.{stage}.json"


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def names(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir())


def run(code: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run Python code in a fresh process that sees these helpers."""
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent.parent)])}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )
