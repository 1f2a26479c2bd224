"""Graph-cut selection against greedy choices by the definition of f, and on two directions."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.evaluate.graph_cut import graph_cut
from ltdd_ray.evaluate.sets import training_set
from ltdd_ray.experts.expert import run_expert


def f(features: Tensor, chosen: list[int]) -> float:
    """Two double sums over similarities, with lambda = 1."""

    def similarity(i: int, j: int) -> float:
        one, other = features[i], features[j]
        return float((1 + one @ other / (one.norm() * other.norm())) / 2)

    from_all = sum(similarity(i, j) for i in range(len(features)) for j in chosen)
    return from_all - sum(similarity(i, j) for i in chosen for j in chosen)


@pytest.mark.parametrize("seed", range(5))
def test_every_choice_adds_the_most_to_f(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(9, 3, generator=draw, dtype=torch.float64)
    expected: list[int] = []
    while len(expected) < 9:
        free = [j for j in range(9) if j not in expected]
        expected.append(max(free, key=lambda j: f(features, [*expected, j])))
    assert graph_cut(features, 9) == expected
    assert graph_cut(features, 4) == expected[:4]
    assert sorted(graph_cut(features, 99)) == list(range(9))


def test_the_larger_direction_first_then_the_other() -> None:
    """Three images point right, two point left: similarities are 1 and 0.

    Sums over all are 3, 3, 3, 2, 2, whatever the lengths. The first choice costs its own direction
    2, so gains are then 1, 1 and 2, 2; then 1, 1 and 0; and 0 after a second one to the right
    (3 - 4 = -1 for the third).
    """
    features = torch.tensor([[1.0, 0], [-2, 0], [7, 0], [-1, 0], [3, 0]])
    assert graph_cut(features, 5) == [0, 1, 2, 3, 4]
    assert graph_cut(features[[1, 0, 2, 3, 4]], 3) == [1, 0, 2]


def test_rounding_does_not_choose_between_two_images() -> None:
    """Each is as similar to the other as the other to it."""
    pairs = torch.randn(100, 2, 8, generator=torch.Generator().manual_seed(0))
    assert all(graph_cut(pair, 2) == [0, 1] for pair in pairs)


def test_equal_images_are_each_taken_once() -> None:
    assert graph_cut(torch.ones(4, 2), 3) == [0, 1, 2]


def test_the_set_is_real_images_of_each_class_that_differ_from_k_center(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny(tmp_path)
    data = prepare_data(config)
    run_expert(config, data, 0, lambda report: None)
    given, other = (training_set(config, data, name, 0) for name in ("graph_cut", "k_center"))
    classes = given.soft_labels.argmax(1).tolist()
    assert given.hard and classes == [k for k in range(10) for _ in range(2)]
    real = data.normalisation.apply(torch.tensor(data.train.images))
    for image, label in zip(given.images, classes):
        same = (real == image).flatten(1).all(1).nonzero()[:, 0]
        assert label in data.train.labels[same.numpy()]
    assert not torch.equal(given.images, other.images)
