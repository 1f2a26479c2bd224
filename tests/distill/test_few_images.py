"""Classes smaller than IPC, down to one image, through every stage in one process."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.groups import class_groups
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.trajectory.loop import distill
from ltdd_ray.evaluate.train import evaluate_network
from ltdd_ray.experts.expert import run_expert

ONE_IMAGE = {"source": "digits", "imbalance_factor": 134, "normalisation": "standard"}
Tiny = Callable[..., RunConfig]


def small(tiny: Tiny, folder: Path, **distilled: object) -> RunConfig:
    experts = {
        "count": 2,
        "representation": {"epochs": 2, "sharpness": "none"},
        "classifier": {"epochs": 2},
    }
    phases = {
        "representation": {"syn_steps": 2, "start_epochs": {"max": 0}},
        "classifier": {"syn_steps": 2},
    }
    return tiny(
        folder,
        data=ONE_IMAGE,
        experts=experts,
        distill={"updates": 2, **phases, **distilled},
        evaluate={"networks": 1, "epochs": 1},
    )


def distil(config: RunConfig, data: PreparedData) -> tuple[DistilledSet, DistilledSet, list[str]]:
    """(before, after, what was said)."""
    for expert in range(config.experts.count):
        run_expert(config, data, expert, lambda report: None)
    before: list[tuple[DistilledSet, list[str]]] = []
    after = distill(
        config,
        data,
        on_update=lambda *_: None,
        on_checkpoint=lambda *_: None,
        on_initial=lambda initial, said: before.append((initial, said)),
    )
    return before[0][0], after, before[0][1]


def test_a_class_of_one_image_is_distilled_and_said(tiny: Tiny, tmp_path: Path) -> None:
    config = small(tiny, tmp_path, ipc=4)
    data = prepare_data(config)
    assert data.train.class_counts.tolist() == [134, 77, 45, 26, 15, 8, 5, 2, 1, 1]
    before, after, said = distil(config, data)
    assert torch.bincount(before.classes).tolist() == [4] * 10
    last = before.images[before.classes == 9]
    assert all(not torch.equal(last[0], repeat) for repeat in last[1:]), "repeats are augmented"
    sentence = next(line for line in said if line.startswith("class 9:"))
    assert sentence.endswith("3 augmented repeats")
    assert torch.isfinite(after.images).all() and not torch.equal(after.images, before.images)
    result = evaluate_network(config, data, "random", config.model.label, 0, lambda report: None)
    assert 0 <= result.accuracy <= 1 and len(result.per_class) == 10
    assert {
        name: len(classes) for name, classes in class_groups(data.train.class_counts).items()
    } == {
        "many": 3,
        "medium": 4,
        "few": 3,
    }


def test_an_unequal_budget_is_distilled(tiny: Tiny, tmp_path: Path) -> None:
    config = small(tiny, tmp_path, budget={"images": 30, "share": "count"})
    before, after, _ = distil(config, prepare_data(config))
    counts = torch.bincount(after.classes).tolist()
    assert (
        sum(counts) == 30
        and counts == sorted(counts, reverse=True)
        and counts[0] > 8
        and counts[9] == 1
    )
    assert after.provenance["images_per_class"] == counts and len(before.images) == 30


def test_one_image_cannot_be_held_out(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"validation split: 2 class\(es\) with a single image cannot be divided, the first "
        r"being '8'",
    ):
        prepare_data(tiny(tmp_path, data={**ONE_IMAGE, "validation_fraction": 0.2}))


def test_an_imbalance_beyond_the_source_says_how_far_it_goes(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"data.imbalance_factor 1000 leaves the last class without an image.*at most 134",
    ):
        prepare_data(tiny(tmp_path, data={**ONE_IMAGE, "imbalance_factor": 1000}))
