"""The judge: what is held out, and the accuracy of classes that have few held-out images or none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.load import load_data
from ltdd_ray.data.split import hold_out_where_possible
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.errors import UserError
from ltdd_ray.search import objective
from ltdd_ray.search.objective import Judge, corrected_accuracy, search_data

COUNTS = np.array([1000, 100, 10, 1])


def test_the_formula_by_hand() -> None:
    """Two measured classes of equal weight 0.8, at log 1000 and log 100, lie ln(10) / 2 from their middle."""
    estimate = corrected_accuracy(np.array([0.9, 0.6, 0.0, np.nan]), np.array([20, 20, 0, 0]), COUNTS, trend_weight=5)
    step = np.log(10)
    slope = 0.8 * step * 0.3 / 2 / (0.8 * step**2 / 2 + 2)
    trend = [0.75 + slope * step * away for away in (0.5, -0.5, -1.5, -2.5)]
    assert estimate == pytest.approx([(18 + 5 * trend[0]) / 25, (12 + 5 * trend[1]) / 25, trend[2], trend[3]])
    assert trend[0] > trend[1] > trend[2] > trend[3] > 0


def test_an_estimate_is_a_share() -> None:
    low, high = (
        corrected_accuracy(np.array([a, b, 0, 0]), np.array([10**6, 10**6, 0, 0]), COUNTS**3, 5) for a, b in ((1, 0), (0, 1))
    )
    assert low[3] == 0 and high[3] == 1


def test_many_images_leave_only_the_measurement() -> None:
    measured = np.array([0.9, 0.2, 0.8, 0.5])
    assert corrected_accuracy(measured, np.full(4, 10**7), COUNTS, 5) == pytest.approx(measured, abs=1e-5)


def test_equal_class_sizes_give_their_mean_as_trend() -> None:
    estimate = corrected_accuracy(np.array([1.0, 0.0, 0.0]), np.array([10, 10, 0]), np.array([50, 50, 50]), 5)
    assert estimate == pytest.approx([(10 + 2.5) / 15, 2.5 / 15, 0.5])


def test_the_order_of_trials_survives_classes_that_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated trials that trade the head for the tail: the estimate from the larger classes ranks them as the truth does."""
    draw = np.random.default_rng(0)
    counts = np.array([500, 300, 180, 108, 64, 38, 23, 14, 8, 4])
    held = (0.2 * counts).astype(int)
    held[counts < 15] = 0
    truths, estimates, means, steep = [], [], [], []
    for _ in range(400):
        level, tilt = draw.uniform(0.4, 0.6), draw.uniform(-0.05, 0.2)
        truth = np.clip(level + tilt * (np.log(counts) - np.log(counts).mean()), 0, 1)
        measured = draw.binomial(np.maximum(held, 1), truth) / np.maximum(held, 1)
        truths.append(truth.mean())
        estimates.append(corrected_accuracy(measured, held, counts, 20).mean())
        means.append(measured[held > 0].mean())
        with monkeypatch.context() as patched:
            patched.setattr(objective, "SLOPE_SHRINKAGE", 1e-9)
            steep.append(corrected_accuracy(measured, held, counts, 20).mean())
    ours, plain, unshrunk = (np.corrcoef(truths, found)[0, 1] for found in (estimates, means, steep))
    assert ours > plain and ours > unshrunk and ours > 0.55
    bias, plain_bias = (np.mean(found) - np.mean(truths) for found in (estimates, means))
    assert abs(bias) < 0.75 * abs(plain_bias)


def dataset(counts: list[int]) -> LongTailedDataset:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(8, 2).repeat(8, 3)
    return LongTailedDataset(images, labels, tuple(map(str, range(len(counts)))))


def test_small_classes_stay_whole() -> None:
    whole = dataset([50, 10, 5, 4, 1])
    kept, held = hold_out_where_possible(whole, 0.2, 0, "test")
    assert held.class_counts.tolist() == [10, 2, 1, 0, 0] and kept.class_counts.tolist() == [40, 8, 4, 4, 1]
    values = [set(part.images[:, 0, 0, 0].tolist()) for part in (kept, held)]
    assert values[0] | values[1] == set(range(70)) and not values[0] & values[1]
    with pytest.raises(UserError, match="the largest has 4 images; raise the fraction"):
        hold_out_where_possible(dataset([4, 1]), 0.2, 0, "test")


def test_the_judge_never_sees_a_test_image(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny(tmp_path)
    data, splits = search_data(config), load_data(config.data, config.seed)
    seen = {image.tobytes() for part in (data.train, data.evaluation) for image in part.images}
    assert seen == {image.tobytes() for image in splits.train.images}
    assert not seen & {image.tobytes() for image in splits.test.images}


def test_a_set_is_worth_what_networks_learn_from_it(
    tiny: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real images with their labels are worth more than the same images with others' labels; both repeat exactly."""
    import torch

    config = tiny(tmp_path, search={"epochs": 60, "networks": 2}, augmentation="")
    data = search_data(config)
    classes = torch.arange(10).repeat_interleave(4)
    index = np.concatenate([np.flatnonzero(data.train.labels == k)[:4] for k in range(10)])
    images = data.normalisation.apply(torch.tensor(data.train.images[index]))

    def judged(labels: torch.Tensor) -> float:
        soft = torch.nn.functional.one_hot(labels, 10).float()
        names = data.train.class_names
        return Judge(config, data).objective(DistilledSet(images, soft, labels, 0.05, data.normalisation, names, ""))

    right, wrong = judged(classes), judged(classes.roll(4))
    assert right > 0.5 > 0.2 > wrong and right == judged(classes)

    def diverging(*_: object) -> None:
        raise objective.NonFiniteLossError

    monkeypatch.setattr(objective, "train_network", diverging)
    assert judged(classes) == 0
