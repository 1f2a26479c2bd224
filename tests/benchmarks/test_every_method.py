"""Every method, from its experts to its networks, where a class has one image and IPC is four."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import without_ray

from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.methods import METHODS, method_config


def base(tiny: Callable[..., RunConfig], folder: Path) -> RunConfig:
    return tiny(
        folder,
        data={"source": "digits", "imbalance_factor": 134, "normalisation": "standard"},
        experts={
            "count": 2,
            "representation": {"epochs": 2, "batch_size": 32, "sharpness": "none"},
            "classifier": {"epochs": 1, "batch_size": 32},
        },
        distill={
            "ipc": 4,
            "updates": 2,
            "representation": {"syn_steps": 2, "expert_epochs": 1, "start_epochs": {"max": 0}},
            "classifier": {"syn_steps": 2, "expert_epochs": 1},
            "distribution": {"updates": 2, "real_batch": 8, "snapshots": {"min": 1, "max": 2}},
        },
        evaluate={"networks": 1, "epochs": 1, "full_data": {"epochs": 1}},
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_class_of_one_image(tiny: Callable[..., RunConfig], tmp_path: Path, method: str) -> None:
    config = method_config(base(tiny, tmp_path), method)
    counts = prepare_data(config).train.class_counts.tolist()
    assert min(counts) == 1 and counts.count(1) == 2

    accuracy = without_ray.run(config, without_ray.Timer(float("inf")))

    results = json.loads((config.folder / "results.json").read_text())
    assert 0 < accuracy < 1 and len(results["per_class"]["mean"]) == 10
    pictures = 4 * config.distill.pictures_per_side**2
    everything = method.startswith("full_")
    assert results["images"] == (sum(counts) if everything else 10 * pictures)
    if config.distils:
        distilled = DistilledSet.load(config.folder / "distilled")
        assert torch.bincount(distilled.classes).tolist() == [pictures] * 10
        assert torch.isfinite(distilled.images).all()
        assert torch.isfinite(distilled.soft_labels).all()
