"""A small distilled set with some of everything an export must carry over."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.distill.artifact import DistilledSet


@pytest.fixture(scope="session")
def make_set() -> Callable[..., DistilledSet]:
    """``make_set(channels=3, class_names=(...), kind="standard")``: two images per class of 9 x 8 pixels, one value above white."""

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
            soft_labels=torch.tensor(draw.normal(size=(2 * count, count)), dtype=torch.float32).softmax(1),
            classes=torch.arange(count).repeat_interleave(2),
            learning_rate=0.03,
            normalisation=normalisation,
            class_names=class_names,
            augmentation="flip_crop",
            class_counts=tuple(range(1200, 1200 - 7 * count, -7)),
            provenance={"method": "ltdd", "seed": 3, "versions": {"torch": "2", "numpy": "3"}},
        )

    return make
