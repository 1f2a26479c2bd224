"""The evaluator: the held-out images, and the score of classes with few of them or none."""

from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.load import load_data
from ltdd_ray.data.split import hold_out_where_possible
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.evaluate import held_out
from ltdd_ray.evaluate.held_out import Score, estimated_accuracy, margins, standard_error
from ltdd_ray.workflows.search.evaluator import search_data, search_evaluator

COUNTS = np.array([1000, 100, 10, 1])


def sample(
    means: list[float], held: list[int], spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Margins (1, N), half ``spread`` above the mean of their class and half below; labels (N,)."""
    labels = np.repeat(np.arange(len(held)), held)
    sides = np.concatenate([spread * (-1.0) ** np.arange(count) for count in held])
    return (np.array(means)[labels] + sides)[None], labels


def test_a_margin_is_positive_where_the_prediction_is_right() -> None:
    logits, labels = (
        torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, -1.0, 5.0]]),
        torch.tensor([0, 2, 1]),
    )
    assert margins(logits, labels).tolist() == [1.0, -1.0, -6.0]


def test_the_formula_by_hand() -> None:
    """Two classes of weight 0.8, at log 1000 and log 100, each ln(10) / 2 from their middle."""
    found, labels = sample([2.0, 0.5], [20, 20])
    estimate = estimated_accuracy(found, labels, COUNTS, trend_weight=5)
    step, deviation = np.log(10), np.sqrt(40 / 38)
    slope = 0.8 * step * 1.5 / 2 / (0.8 * step**2 / 2 + 2)
    trend = [1.25 + slope * step * away for away in (0.5, -0.5, -1.5, -2.5)]
    likely = [
        NormalDist().cdf(margin / deviation)
        for margin in ((40 + 5 * trend[0]) / 25, (10 + 5 * trend[1]) / 25, *trend[2:])
    ]
    assert estimate == pytest.approx(
        [(20 + 5 * likely[0]) / 25, (10 + 5 * likely[1]) / 25, likely[2], likely[3]]
    )
    assert all(np.diff(estimate) < 0)


def test_networks_are_averaged() -> None:
    found, labels = sample([2.0, 0.5, 1.0, 0.0], [20, 20, 4, 2])
    other = found[:, ::-1].copy()
    both = estimated_accuracy(np.concatenate([found, other]), labels, COUNTS, 1e-9)
    assert both == pytest.approx(
        (
            estimated_accuracy(found, labels, COUNTS, 1e-9)
            + estimated_accuracy(other, labels, COUNTS, 1e-9)
        )
        / 2
    )


def test_many_images_leave_only_the_measurement() -> None:
    found, labels = sample([0.9, -0.2, 1.2, 0.0], [10**5] * 4)
    assert estimated_accuracy(found, labels, COUNTS, 5) == pytest.approx(
        [0.5, 0.5, 1.0, 0.5], abs=1e-4
    )


def test_equal_class_sizes_give_their_mean_as_trend() -> None:
    found, labels = sample([3.0, 1.0], [10, 10])
    estimate = estimated_accuracy(found, labels, np.array([50, 50, 50]), 5)
    assert estimate[2] == pytest.approx(NormalDist().cdf(2 / np.sqrt(20 / 18)))


def test_margins_rank_trials_whose_accuracies_are_all_1() -> None:
    """Both trials have accuracy 1 in the measured classes; one has small margins in the tail."""
    level, falling = (sample(means, [20, 20, 0, 0], 0.5) for means in ([2.0, 2.0], [3.0, 1.0]))
    even, leaning = (estimated_accuracy(*found, COUNTS, 1) for found in (level, falling))
    assert leaning[0] > even[0] and leaning[3] < even[3] - 0.3


@pytest.mark.parametrize("held", [[1, 1], [20, 20], [1, 0]])
def test_margins_without_spread_are_certain(held: list[int]) -> None:
    estimate = estimated_accuracy(*sample([1.0, -1.0], held, 0.0), COUNTS[:2], 1)
    assert np.isfinite(estimate).all() and estimate[0] > 0.9


def test_the_standard_error_by_hand() -> None:
    found, labels = sample([2.0, 0.0, 2.0], [10, 10, 1])
    shares = [(11 / 12, 10), (0.5, 10), (2 / 3, 1), (0.5, 1)]
    expected = np.sqrt(sum(share * (1 - share) / images for share, images in shares)) / 4
    assert standard_error(found, labels, 4) == pytest.approx(expected)


def test_the_order_of_trials_survives_classes_that_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On simulated trials with different tilts, the estimate ranks better than a plain mean."""
    draw = np.random.default_rng(0)
    counts = np.array([500, 300, 180, 108, 64, 38, 23, 14, 8, 4])
    held = (0.2 * counts).astype(int)
    held[counts < 15] = 0
    labels = np.repeat(np.arange(10), held)
    truths, estimates, means, steep = [], [], [], []
    for _ in range(400):
        level, tilt = draw.uniform(0.6, 1.2), draw.uniform(-0.1, 0.4)
        mean = level + tilt * (np.log(counts) - np.log(counts).mean())
        found = (mean[labels] + draw.normal(size=len(labels)))[None]
        truths.append(np.mean([NormalDist().cdf(one) for one in mean]))
        estimates.append(estimated_accuracy(found, labels, counts, 1).mean())
        means.append(np.mean([(found[0, labels == k] > 0).mean() for k in range(10) if held[k]]))
        with monkeypatch.context() as patched:
            patched.setattr(held_out, "SLOPE_SHRINKAGE", 1e-9)
            steep.append(estimated_accuracy(found, labels, counts, 1).mean())
    ours, plain, unshrunk = (
        np.corrcoef(truths, found)[0, 1] for found in (estimates, means, steep)
    )
    assert ours > plain and ours > unshrunk and ours > 0.6
    bias, plain_bias = (np.mean(found) - np.mean(truths) for found in (estimates, means))
    assert abs(bias) < 0.2 * abs(plain_bias)


def dataset(counts: list[int]) -> LongTailedDataset:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(8, 2).repeat(8, 3)
    return LongTailedDataset(images, labels, tuple(map(str, range(len(counts)))))


def test_small_classes_stay_whole() -> None:
    whole = dataset([50, 10, 5, 4, 1])
    kept, held = hold_out_where_possible(whole, 0.2, 0, "test")
    assert held.class_counts.tolist() == [10, 2, 1, 0, 0] and kept.class_counts.tolist() == [
        40,
        8,
        4,
        4,
        1,
    ]
    values = [set(part.images[:, 0, 0, 0].tolist()) for part in (kept, held)]
    assert values[0] | values[1] == set(range(70)) and not values[0] & values[1]
    with pytest.raises(
        UserError, match=r"the largest has 4 images; raise search\.validation_fraction"
    ):
        hold_out_where_possible(dataset([4, 1]), 0.2, 0, "test")


def test_the_evaluator_has_no_test_image(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny(tmp_path)
    data, splits = search_data(config), load_data(config.data, config.seed)
    seen = {image.tobytes() for part in (data.train, data.evaluation) for image in part.images}
    assert seen == {image.tobytes() for image in splits.train.images}
    assert not seen & {image.tobytes() for image in splits.test.images}


def test_a_score_is_what_networks_learn_from_the_set(
    tiny: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images with their own labels score higher than with wrong ones; scores repeat exactly."""
    config = tiny(tmp_path, search={"epochs": 60, "networks": 2}, augmentation="")
    data = search_data(config)
    classes = torch.arange(10).repeat_interleave(4)
    index = np.concatenate([np.flatnonzero(data.train.labels == k)[:4] for k in range(10)])
    images = data.normalisation.apply(torch.tensor(data.train.images[index]))

    def score(labels: torch.Tensor) -> float:
        soft = torch.nn.functional.one_hot(labels, 10).float()
        names = data.train.class_names
        found = search_evaluator(config, data).score(
            DistilledSet(images, soft, labels, 0.05, data.normalisation, names, "")
        )
        assert 0 < found.standard_error < 0.2
        return found.accuracy

    right, wrong = score(classes), score(classes.roll(4))
    assert right > 0.5 > 0.2 > wrong and right == score(classes)

    def diverging(*_: object) -> None:
        raise held_out.NonFiniteLossError

    monkeypatch.setattr(held_out, "train_network", diverging)
    names, soft = data.train.class_names, torch.nn.functional.one_hot(classes, 10).float()
    whole = DistilledSet(images, soft, classes, 0.05, data.normalisation, names, "")
    assert search_evaluator(config, data).score(whole) == Score(0.0, 0.0)
    monkeypatch.undo()
    monkeypatch.setattr(
        held_out, "margins", lambda logits, labels: torch.full(labels.shape, torch.nan)
    )
    assert search_evaluator(config, data).score(whole) == Score(0.0, 0.0)
