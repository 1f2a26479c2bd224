from itertools import pairwise

import numpy as np
import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.data.longtail import long_tail_counts, long_tail_indices


def _balanced(per_class: int, classes: int) -> tuple[np.ndarray, list[str]]:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), per_class))
    return labels, [f"class{k}" for k in range(classes)]


@pytest.mark.parametrize(
    ("n_max", "imbalance_factor", "classes", "total", "smallest"),
    [
        (5000, 10, 10, 20431, 500),
        (5000, 100, 10, 12406, 50),
        (5000, 200, 10, 11203, 25),
        (500, 10, 200, 39072, 50),
    ],
)
def test_published_sizes(n_max, imbalance_factor, classes, total, smallest):
    counts = long_tail_counts(n_max, imbalance_factor, classes)
    assert counts.dtype == np.int64
    assert (counts[0], counts[-1], counts.sum()) == (n_max, smallest, total)


def test_whole_counts_do_not_fall_to_rounding():
    assert long_tail_counts(160, 32, 6).tolist() == [160, 80, 40, 20, 10, 5]


def test_factor_one_keeps_every_class_whole():
    assert long_tail_counts(7, 1, 3).tolist() == [7, 7, 7]


def test_factor_beyond_the_largest_class_is_refused():
    with pytest.raises(UserError, match=r"imbalance_factor 50 .* at most 20"):
        long_tail_counts(20, 50, 5)


def test_random_selection_is_the_published_one():
    labels, names = _balanced(40, 4)
    indices = long_tail_indices(labels, names, 8, "random")
    counts = long_tail_counts(40, 8, 4)
    expected = [
        np.flatnonzero(labels == k)[np.random.RandomState(42).choice(40, n, replace=False)]
        for k, n in enumerate(counts)
    ]
    assert indices.tolist() == np.concatenate(expected).tolist()


def test_first_selection_follows_file_order():
    indices = long_tail_indices(np.array([1, 0, 0, 1, 0, 1, 0, 1]), ["a", "b"], 2, "first")
    assert indices.tolist() == [1, 2, 4, 6, 0, 3]


@pytest.mark.parametrize("selection", ["random", "first"])
def test_larger_factors_are_contained_in_smaller(selection):
    labels, names = _balanced(100, 5)
    kept = [
        set(long_tail_indices(labels, names, factor, selection).tolist())
        for factor in (1, 2, 10, 50, 100)
    ]
    assert len(kept[0]) == 500
    assert all(smaller < larger for larger, smaller in pairwise(kept))


def test_too_small_class_is_named():
    labels = np.repeat([0, 1, 2], [10, 3, 10])
    with pytest.raises(UserError, match=r"class 1 \('b'\) has 3 images.* takes 5 .*null"):
        long_tail_indices(labels, ["a", "b", "c"], 4, "first")


def test_a_nearly_balanced_source_gives_all_images_of_small_classes():
    labels = np.repeat([0, 1, 2], [10, 3, 7])
    indices = long_tail_indices(labels, ["a", "b", "c"], 4, "first", n_max=8)
    assert np.bincount(labels[indices]).tolist() == [8, 3, 2]
