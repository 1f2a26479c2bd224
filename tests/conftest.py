"""What all tests share: one torch thread, one Ray for the session, and a config that trains in seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ltdd_ray.config import ComputeConfig, RunConfig
from ltdd_ray.config_file import parse_config

torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"source": "digits", "test_fraction": 0.5, "imbalance_factor": 10, "normalisation": "standard"},
    "model": {"width": 4, "depth": 2},
    "augmentation": "color_crop_scale_rotate",
    "experts": {
        "count": 3,
        "representation": {"epochs": 6, "batch_size": 32, "sharpness": "none"},
        "classifier": {"epochs": 3, "batch_size": 32},
    },
    "distill": {
        "ipc": 2,
        "updates": 12,
        "segments_per_update": 2,
        "representation": {"syn_steps": 2, "start_epochs": {"max": 3}},
        "classifier": {"syn_steps": 2},
        "lr_image": 10,
        "checkpoint_every": 3,
    },
    "evaluate": {"networks": 2, "epochs": 4},
}


def pytest_configure(config: pytest.Config) -> None:
    """Every warning is an error, except where Ray's own modules warn each other."""
    config.addinivalue_line("filterwarnings", r"ignore::DeprecationWarning:ray\..*")


@pytest.fixture(scope="session")
def tiny() -> Callable[..., RunConfig]:
    """``tiny(folder, **sections)``: a config of a few seconds of work that writes into ``folder``."""

    def make(folder: Path, **changes: Any) -> RunConfig:
        return parse_config({**TINY, "output": str(folder), **changes}, "tiny")

    return make


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray on this machine, four CPUs whatever it has, started once for all tests that need it."""
    from ltdd_ray.cluster.session import ray_session

    with ray_session(ComputeConfig(num_cpus=4)):
        yield
