from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ltdd_ray.augment import Augmentation
from ltdd_ray.config import EvaluateConfig, RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.errors import NonFiniteLossError
from ltdd_ray.evaluate.results import results_table, summarise
from ltdd_ray.evaluate.sets import TrainingSet, random_selection, training_set
from ltdd_ray.evaluate.train import NetworkResult, measure, train_network

COUNTS = (9, 4, 2)


@pytest.fixture
def train() -> LongTailedDataset:
    labels = np.repeat(np.arange(3), COUNTS)
    return LongTailedDataset(np.zeros((15, 1, 8, 8), np.uint8), labels, ("cat", "dog", "owl"))


class Constant(nn.Module):
    """Predicts class 0 for dark images and class 1 for bright ones."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean((1, 2, 3))
        return torch.stack([-bright, bright, torch.full_like(bright, -9)], 1)


def test_accuracy_counts_every_class_alike() -> None:
    images = torch.tensor([-1.0, -1, -1, 1, 1, 1, 1]).view(-1, 1, 1, 1)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    accuracy, per_class = measure(Constant(), images, labels)
    assert per_class == (0.75, 1.0, 0.0)
    assert accuracy == pytest.approx(1.75 / 3)


def test_random_selection_is_balanced_and_repeats_only_where_it_must(train: LongTailedDataset) -> None:
    index = random_selection(train, 4, seed=0, network=0)
    assert train.labels[index].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(set(index[:4])) == 4 and set(index[4:8]) == {9, 10, 11, 12}
    assert sorted(index[8:]) == [13, 13, 14, 14]
    assert index == random_selection(train, 4, seed=0, network=0)
    assert index != random_selection(train, 4, seed=0, network=1)


def test_the_8_bit_set_is_what_an_export_holds(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    config = tiny(tmp_path)
    data = prepare_data(config)
    images = data.normalisation.apply(torch.rand(4, *data.train.image_shape, generator=torch.Generator().manual_seed(0)) * 300 - 20)
    labels, classes = torch.full((4, 10), 0.1), torch.arange(4)
    distilled = DistilledSet(images, labels, classes, 0.03, data.normalisation, data.train.class_names, "flip")
    distilled.save(config.folder / "distilled")
    exact, rounded = (training_set(config, data, name, 0) for name in ("distilled", "distilled_8bit"))
    assert torch.equal(exact.images, images) and rounded.learning_rate == exact.learning_rate == 0.03
    assert torch.equal(rounded.images, data.normalisation.apply(distilled.pixels()))
    assert float((rounded.images - images).abs().max()) > 0.01


def test_training_learns_a_separable_set_and_repeats_exactly() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1] * 10)
    images = torch.randn(20, 1, 4, 4, generator=random) + (labels * 4 - 2).view(-1, 1, 1, 1)
    given = TrainingSet(images, torch.eye(3)[labels], 0.1)
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        train_network(model, given, EvaluateConfig(epochs=20, batch_size=8), Augmentation("flip_crop"), seed=1)
        weights.append(model[1].weight.detach().clone())
        assert measure(model, images, labels)[1][:2] == (1.0, 1.0)
    assert torch.equal(*weights)


def test_a_network_that_diverges_says_so() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    given = TrainingSet(torch.full((4, 1, 4, 4), 1e20), torch.eye(3)[[0, 1, 2, 0]], 1e20)
    with pytest.raises(NonFiniteLossError, match=r"rate 1e\+20"):
        train_network(model, given, EvaluateConfig(epochs=3), Augmentation(""), seed=0)


def test_results_are_means_and_sample_deviations(train: LongTailedDataset) -> None:
    config = RunConfig.model_validate(
        {
            "name": "r",
            "data": {"source": "digits"},
            "distill": {"ipc": 1},
            "evaluate": {"networks": 2, "sets": ["distilled", "random"]},
        }
    )
    networks = [
        NetworkResult("distilled", 0, 0.5, (0.9, 0.4, 0.2), 1.0),
        NetworkResult("distilled", 1, 0.7, (0.9, 0.6, 0.6), 1.0),
        NetworkResult("random", 0, 0.3, (0.5, 0.3, 0.1), 1.0),
        NetworkResult("random", 1, 0.3, (0.5, 0.3, 0.1), 1.0),
    ]
    results = summarise(config, train, networks, {"timings": {"evaluate": 2.0}})
    assert results["accuracy"]["mean"] == pytest.approx(0.6)
    assert results["accuracy"]["std"] == pytest.approx(0.1 * 2**0.5)
    assert results["per_class"]["mean"] == pytest.approx([0.9, 0.5, 0.4])
    assert {name: group["mean"] for name, group in results["groups"].items()} == pytest.approx(
        {"many": 0.9, "medium": 0.5, "few": 0.4}
    )
    assert results["random_baseline"]["accuracy"]["std"] == 0
    assert results["imbalance_factor"] == 4.5 and results["timings"] == {"evaluate": 2.0}
    table = results_table(results)
    assert [column.header for column in table.columns] == ["", "all", "many", "medium", "few"]
    assert list(table.columns[1].cells) == ["60.0 ± 14.1", "30.0 ± 0.0"]


def test_a_result_survives_json() -> None:
    result = NetworkResult("random", 3, 0.25, (0.1, 0.4), 2.5)
    assert NetworkResult.from_json(result.to_json()) == result
