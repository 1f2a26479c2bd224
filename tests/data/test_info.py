"""How coarse the numbers of the results are: what one test image moves."""

import numpy as np
import pytest

from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.info import DataSummary, data_table, describe, steps_of_one_image
from ltdd_ray.data.load import DataSplits

NAMES = ("ant", "bee", "cat", "dog")


def summary(test: list[int]) -> DataSummary:
    train_labels = np.repeat(np.arange(4), [40, 20, 10, 5])
    test_labels = np.repeat(np.arange(4), test)
    train = LongTailedDataset(np.zeros((75, 1, 8, 8), np.uint8), train_labels, NAMES)
    images = np.zeros((len(test_labels), 1, 8, 8), np.uint8)
    splits = DataSplits(train, None, LabelledImages(images, test_labels, NAMES), None)
    return describe(splits, DataConfig(source="digits"))


def test_steps_by_hand() -> None:
    steps = steps_of_one_image(summary([50, 25, 10, 2]))
    # One class is many-shot and one few-shot; bee and cat are between them.
    assert steps == pytest.approx(
        {
            "a class": 50.0,
            "many-shot": 2.0,
            "medium-shot": 10.0 / 2,
            "few-shot": 50.0,
            "balanced accuracy": 50.0 / 4,
            "accuracy over images": 100 / 87,
        }
    )


def test_classes_without_test_images_are_left_out() -> None:
    steps = steps_of_one_image(summary([50, 25, 10, 0]))
    assert "few-shot" not in steps and steps["balanced accuracy"] == pytest.approx(10 / 3)
    assert steps_of_one_image(summary([0, 0, 0, 0])) == {}


def test_a_step_is_what_one_more_right_image_changes() -> None:
    """By counting: one more right image of the smallest class, in each number."""
    test = np.array([50, 25, 10, 2])
    right = np.array([40, 20, 5, 1])
    more = right + np.array([0, 0, 0, 1])
    steps = steps_of_one_image(summary(test.tolist()))
    balanced = 100 * ((more / test).mean() - (right / test).mean())
    assert steps["balanced accuracy"] == pytest.approx(balanced)
    over_images = 100 * (more.sum() - right.sum()) / test.sum()
    assert steps["accuracy over images"] == pytest.approx(over_images)


def test_the_table_says_so() -> None:
    lines = [str(part) for part in data_table(summary([50, 25, 10, 2])).renderables[1:]]  # pyright: ignore
    assert any(
        line.startswith("one test image moves, in points: a class by up to 50, many-shot by")
        for line in lines
    )
