from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ltdd_ray.config import DataConfig, RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.estimate import estimate_counts
from ltdd_ray.data.info import describe, render
from ltdd_ray.data.load import load_data
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.data.split import labelled_subset
from ltdd_ray.errors import UserError

DIGITS = {"source": "digits", "imbalance_factor": 20}


def digits(**settings) -> DataConfig:
    return DataConfig.model_validate({**DIGITS, **settings})


def test_labels_are_forgotten_at_random_but_for_one_of_each_class() -> None:
    dataset = load_data(digits(), 0).train
    known = labelled_subset(dataset, 0.2, seed=0)
    counts = np.bincount(dataset.labels[known], minlength=10)
    assert counts.min() >= 1 and 91 <= known.sum() <= 94  # 453 / 5, and what the draw missed
    assert np.array_equal(known, labelled_subset(dataset, 0.2, seed=0))
    assert not np.array_equal(known, labelled_subset(dataset, 0.2, seed=1))
    assert labelled_subset(dataset, 0.001, seed=0).sum() == 10


def test_networks_are_trained_on_labelled_images_alone() -> None:
    everything, splits = load_data(digits(), 0).train, load_data(digits(labelled_fraction=0.2), 0)
    assert splits.estimate is None and len(splits.train) < len(everything) / 4
    assert {image.tobytes() for image in splits.train.images} <= {image.tobytes() for image in everything.images}


def test_unlabelled_images_improve_the_count_of_digits() -> None:
    estimates = [load_data(digits(labelled_fraction=0.2, class_counts="estimate"), seed).estimate for seed in range(3)]
    for found in estimates:
        assert found is not None and found.true.tolist() == [134, 96, 68, 49, 35, 25, 18, 13, 9, 6]
        assert found.maximum_likelihood.sum() == pytest.approx(453) and found.prior.min() > 0
        assert found.error(found.true) == 0 and found.error(found.maximum_likelihood) < found.error(found.proportional)


def test_hidden_labels_are_not_looked_at() -> None:
    dataset = load_data(digits(), 0).train
    known = labelled_subset(dataset, 0.3, seed=0)
    lied = dataset.labels.copy()
    lied[~known] = (lied[~known] + 1) % 10
    honest = estimate_counts(dataset, known, 0)
    fooled = estimate_counts(LongTailedDataset(dataset.images, lied, dataset.class_names), known, 0)
    assert np.array_equal(honest.maximum_likelihood, fooled.maximum_likelihood) and np.array_equal(
        honest.black_box, fooled.black_box
    )
    assert not np.array_equal(honest.true, fooled.true)


def test_too_few_labels_to_hold_any_out() -> None:
    dataset = LongTailedDataset(np.zeros((9, 1, 4, 4), np.uint8), np.array([0, 1] + [0] * 7), ("a", "b"))
    with pytest.raises(UserError, match=r"too few labels are known to hold some out; raise data.labelled_fraction"):
        estimate_counts(dataset, np.arange(9) < 2, 0)


def test_matching_reckons_with_the_estimate(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    known = prepare_data(tiny(tmp_path, data={**DIGITS, "normalisation": "standard", "labelled_fraction": 0.2}))
    estimated = prepare_data(
        tiny(tmp_path, data={**DIGITS, "normalisation": "standard", "labelled_fraction": 0.2, "class_counts": "estimate"})
    )
    assert np.array_equal(known.prior, known.train.prior)
    assert estimated.estimate is not None and np.array_equal(estimated.prior, estimated.estimate.prior)
    assert known.train.fingerprint == estimated.train.fingerprint, "the same experts serve both"
    assert estimated.prior.sum() == pytest.approx(1)


def test_info_shows_estimate_and_truth() -> None:
    config = digits(labelled_fraction=0.2, class_counts="estimate")
    output = StringIO()
    Console(width=140, file=output).print(render(describe(load_data(config, 0), config)))
    text = output.getvalue()
    assert "estimated of all" in text and " 134 " in text
    assert "images counted in a wrong class: proportional" in text and "maximum likelihood" in text


def test_an_estimate_needs_unlabelled_images() -> None:
    with pytest.raises(ValueError, match=r"set data.labelled_fraction"):
        digits(class_counts="estimate")
