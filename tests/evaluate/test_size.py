"""Bytes of every kind of set, worked out by hand: 2 classes, 1 x 8 x 8 pixels."""

import numpy as np
import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.evaluate.size import per_kilobyte, set_bytes


@pytest.mark.parametrize(
    ("name", "images", "labels", "distill", "expected"),
    [
        ("distilled", 6, "soft", {}, 6 * 64 * 4 + 6 * 2 * 4),
        ("distilled_hard", 6, "hard", {}, 6 * 64 * 4 + 6),
        ("distilled", 6, "soft", {"bits": 8}, 6 * 64 + 6 * 2 * 4),
        ("distilled_8bit", 6, "soft", {}, 6 * 64 + 6 * 2 * 4),
        ("distilled", 24, "soft", {"pictures_per_side": 2}, 6 * 64 * 4 + 24 * 2 * 4),
        ("initial", 6, "soft", {}, 6 * 64 + 6 * 2 * 4),
        ("initial", 6, "soft", {"initial_images": "noise"}, 6 * 64 * 4 + 6 * 2 * 4),
        ("initial", 6, "hard", {"initial_images": "noise", "engine": "dm"}, 6 * 64 + 6),
        ("initial", 6, "soft", {"engine": "rldd"}, 6 * 64 * 4 + 6 * 2 * 4),
        ("initial", 24, "soft", {"pictures_per_side": 2}, 6 * 64 * 4 + 24 * 2 * 4),
        ("initial", 24, "soft", {"pictures_per_side": 2, "bits": 8}, 6 * 64 + 24 * 2 * 4),
        # 12 images of each class: the second has 10, so two of its are augmented repeats.
        ("initial", 24, "soft", {"ipc": 12}, (22 + 2 * 4) * 64 + 24 * 2 * 4),
        ("random", 24, "hard", {"ipc": 12}, 24 * 64 + 24),
        ("random", 6, "hard", {}, 6 * 64 + 6),
        ("random_soft", 6, "soft", {}, 6 * 64 + 6 * 2 * 4),
        ("random", 24, "hard", {"pictures_per_side": 2}, 6 * 64 * 4 + 24),
        ("full_ce", 30, "hard", {"pictures_per_side": 2}, 30 * 64 + 30),
    ],
)
def test_bytes_by_hand(name: str, images: int, labels: str, distill: dict, expected: int) -> None:
    tree = {"name": "r", "data": {"source": "digits"}, "distill": {"ipc": 3, **distill}}
    tree["model"] = {"norm": "batch"}  # which rldd asks for
    pixels, classes = np.zeros((30, 1, 8, 8), np.uint8), np.repeat([0, 1], [20, 10])
    train = LongTailedDataset(pixels, classes, ("ant", "bee"))
    assert set_bytes(RunConfig.model_validate(tree), train, name, images, labels) == expected


def test_a_kilobyte_has_a_thousand_bytes() -> None:
    assert per_kilobyte(0.45, 9000) == pytest.approx(5.0)
