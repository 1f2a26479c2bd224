import numpy as np
import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.data.dataset import LongTailedDataset


def _dataset(images=None, labels=None, names=("a", "b")) -> LongTailedDataset:
    images = (
        np.arange(4 * 3 * 2 * 5, dtype=np.uint8).reshape(4, 3, 2, 5) if images is None else images
    )
    return LongTailedDataset(images, np.array([1, 0, 1, 1]) if labels is None else labels, names)


def test_counts_prior_and_shape():
    dataset = _dataset()
    assert dataset.class_counts.tolist() == [1, 3]
    assert dataset.prior.tolist() == [0.25, 0.75]
    assert dataset.image_shape == (3, 2, 5)


def test_subset_keeps_order_and_names():
    subset = _dataset().subset(np.array([3, 1]))
    assert subset.labels.tolist() == [1, 0]
    assert subset.images[:, 0, 0, 0].tolist() == [90, 30]
    assert subset.class_names == ("a", "b")


def test_fingerprint_tells_images_labels_and_names_apart():
    dataset = _dataset()
    changed = dataset.images.copy()
    changed[2, 1, 0, 3] ^= 1
    others = [
        _dataset(changed),
        _dataset(labels=np.array([1, 1, 0, 1])),
        _dataset(names=("a", "c")),
    ]
    assert dataset.fingerprint == _dataset(labels=dataset.labels.astype(np.uint8)).fingerprint
    assert len({dataset.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((4, 3, 2, 5))}, r"images are float64 of shape \(4, 3, 2, 5\)"),
        ({"images": np.zeros((4, 2, 2, 5), np.uint8)}, r"1 or 3 channels"),
        ({"labels": np.array([0, 1])}, r"expected 4 whole numbers"),
        ({"labels": np.array([0.0, 1.0, 1.0, 1.0])}, r"labels are float64"),
        ({"labels": np.array([0, 1, 2, 1])}, r"label 2 lies outside 0..1; renumber"),
        ({"names": ("a", "b", "c")}, r"1 class\(es\) without a single image: 'c'"),
    ],
)
def test_impossible_data_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        _dataset(**changes)
