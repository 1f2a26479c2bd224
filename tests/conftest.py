"""Shared by all tests: one torch thread, one Ray cluster, a tiny config, a small distilled set."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltdd_ray.config import ComputeConfig, RunConfig
from ltdd_ray.config.loading import parse_config
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.distill.artifact import DistilledSet

torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {
        "source": "digits",
        "test_fraction": 0.5,
        "imbalance_factor": 10,
        "normalisation": "standard",
    },
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
    """``tiny(folder, **sections)``: a config of seconds of work that writes into ``folder``."""

    def make(folder: Path, **changes: Any) -> RunConfig:
        return parse_config({**TINY, "output": str(folder), **changes}, "tiny")

    return make


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray with four CPUs and one GPU, real or not, started once per session."""
    import ray

    from ltdd_ray.cluster.session import ray_session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "init", partial(ray.init, num_gpus=1))
        with ray_session(ComputeConfig(num_cpus=4)):
            yield


@pytest.fixture(scope="session")
def make_set() -> Callable[..., DistilledSet]:
    """``make_set(channels=3, class_names=(...), kind="standard")``: two images per class.

    They have 9 x 8 pixels, one of them above white.
    """

    def make(
        channels: int = 3,
        class_names: tuple[str, ...] = ("cat", "dog", "owl"),
        kind: str = "standard",
        size: tuple[int, int] = (9, 8),
    ) -> DistilledSet:
        draw, count = np.random.default_rng(0), len(class_names)
        pixels = draw.integers(0, 256, (20, channels, *size), dtype=np.uint8)
        normalisation = Normalisation.fit(pixels, kind)  # pyright: ignore[reportArgumentType]
        chosen = torch.tensor(draw.integers(0, 256, (2 * count, channels, *size))).float()
        chosen[0, 0, 0, 0] = 300
        return DistilledSet(
            images=normalisation.apply(chosen),
            soft_labels=torch.tensor(
                draw.normal(size=(2 * count, count)), dtype=torch.float32
            ).softmax(1),
            classes=torch.arange(count).repeat_interleave(2),
            learning_rate=0.03,
            normalisation=normalisation,
            class_names=class_names,
            augmentation="flip_crop",
            class_counts=tuple(range(1200, 1200 - 7 * count, -7)),
            provenance={"method": "ltdd", "seed": 3, "versions": {"torch": "2", "numpy": "3"}},
        )

    return make
