"""The ranking of methods, its uncertainty and its sentences, against numbers worked out by hand."""

from collections.abc import Callable
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import load_config
from ltdd_ray.evaluate.held_out import estimated_accuracy, standard_error
from ltdd_ray.workflows.compare.ranking import (
    Ranked,
    config_to_run,
    difference_error,
    rank,
    verdict,
)

LABELS = np.repeat([0, 1], 50)
COUNTS = np.array([200, 200])


def margins(*right: int) -> np.ndarray:
    """A network for each number (R, 100), which predicts as many images of each class rightly."""
    each = [np.tile(np.where(np.arange(50) < number, 1.0, -1.0), 2) for number in right]
    return np.stack(each)


def test_the_error_of_a_difference_by_hand() -> None:
    """Class 0: `a` alone predicts two of four images; class 1 is empty."""
    a, b = np.array([[1.0, 1, 1, -1]]), np.array([[-1.0, -1, 1, -1]])
    variance = (2 + 1) / 6 - (2 / 6) ** 2
    expected = sqrt(variance / 4 + 0.5) / 2
    assert difference_error(a, b, np.zeros(4, int), 2) == pytest.approx(expected)
    assert difference_error(b, a, np.zeros(4, int), 2) == pytest.approx(expected)


def test_the_error_is_that_of_many_draws() -> None:
    """Two methods that agree on most images: the error is far below that of independent ones."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 40)
    gaps, errors = [], []
    for _ in range(600):
        both, one = draw.random(200) < 0.6, draw.random(200) < 0.1
        a, b = (np.where(found, 1.0, -1.0)[None] for found in (both, both ^ one))
        gaps.append(float((a > 0).mean() - (b > 0).mean()))
        errors.append(difference_error(a, b, labels, 5))
    assert np.mean(errors) == pytest.approx(np.std(gaps), rel=0.15)
    assert np.mean(errors) < 0.6 * sqrt(2) * standard_error(a, labels, 5)


def test_methods_are_ranked_with_the_errors_of_images_and_networks() -> None:
    found = {"random": margins(20, 24), "ltdd": margins(44, 44)}
    first, second = rank(found, LABELS, COUNTS, 1e-9)
    assert (first.method, second.method) == ("ltdd", "random")
    assert first.accuracy == pytest.approx(0.88) and second.accuracy == pytest.approx(0.44)
    networks = (0.08**2 / 2 + 0) / 2 / 2  # means over two methods of variances over two networks
    images = standard_error(found["random"], LABELS, 2)
    assert second.error == pytest.approx(sqrt(images**2 + networks))
    assert first.level and not second.level


@pytest.mark.parametrize(("behind", "level"), [(42, True), (28, False)])
def test_two_methods_that_cannot_be_told_apart_are_level(behind: int, level: bool) -> None:
    found = {"a": margins(44, 44), "b": margins(behind, behind)}
    ranking = rank(found, LABELS, COUNTS, 1.0)
    assert [row.level for row in ranking] == [True, level]
    assert ("it cannot be told from b" in verdict(ranking)) == level


def test_networks_that_differ_make_methods_level() -> None:
    """28 and 44 of 50 are apart unless the networks of a method are."""
    even, spread = ({"a": margins(44, 44), "b": margins(28 - d, 28 + d)} for d in (0, 22))
    assert [rank(one, LABELS, COUNTS, 1.0)[1].level for one in (even, spread)] == [False, True]


def test_a_class_without_held_out_images_counts_by_the_trend() -> None:
    """Class 2 has one image to train on. Equal accuracies elsewhere, but margins that fall."""
    labels, counts = np.repeat([0, 1], 20), np.array([1000, 100, 1])
    sides = np.tile([0.5, -0.5], 20)
    found = {
        "falling": (np.where(labels == 0, 3.0, 1.0) + sides)[None],
        "level": (2.0 + sides)[None],
    }
    ranking = rank(found, labels, counts, 1.0)
    assert [row.method for row in ranking] == ["level", "falling"]
    expected = estimated_accuracy(found["level"], labels, counts, 1.0).mean()
    assert ranking[0].accuracy == pytest.approx(expected)


def test_a_method_that_diverges_is_last() -> None:
    found = {"lost": np.full((2, 100), np.nan), "a": margins(10, 12)}
    first, last = rank(found, LABELS, COUNTS, 1.0)
    assert (first.method, last.method, last.accuracy) == ("a", "lost", 0.0)
    assert np.isfinite(first.error) and not last.level


def test_the_config_to_run_says_why_and_is_the_whole_run(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny(tmp_path)
    rows = [Ranked("mtt", 0.61, 0.02, True), Ranked("dm", 0.6, 0.021, True)]
    file = tmp_path / "best.yaml"
    file.write_text(config_to_run(config, rows))
    loaded, text = load_config(file), file.read_text()
    assert loaded.name == "tiny/mtt" and loaded.method == "mtt"
    assert loaded.distill.updates == config.distill.updates and loaded.distill.lr_label == 0
    assert loaded.store_uri == config.store_uri, "experts of the run are used where it has some"
    assert (
        "mtt is first; in this time it cannot be told from dm" in text and "dm: 60.0 ± 2.1" in text
    )
