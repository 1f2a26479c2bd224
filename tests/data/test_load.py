from io import StringIO

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.info import data_table, describe
from ltdd_ray.data.load import load_data
from ltdd_ray.data.split import hold_out


@pytest.fixture
def source(tmp_path):
    """Write ``counts`` images of each class, with a running number as pixels; returns a config."""

    def write(counts, test=False, size=(8, 10), **settings) -> DataConfig:
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
        images = np.broadcast_to(
            np.arange(len(labels), dtype=np.uint8)[:, None, None], (len(labels), 8, 10)
        )
        arrays = {"train_images": images, "train_labels": labels}
        if test:
            arrays |= {
                "test_images": np.zeros((len(counts), *size), np.uint8),
                "test_labels": np.arange(len(counts)),
            }
        np.savez(tmp_path / "x.npz", **arrays)
        return DataConfig(source="npz", path=str(tmp_path / "x.npz"), **settings)

    return write


def _numbers(dataset) -> list[int]:
    return dataset.images[:, 0, 0, 0].tolist()


def test_natural_counts_without_a_profile(source):
    splits = load_data(source([30, 7, 12], test=True), 0)
    assert splits.train.class_counts.tolist() == [30, 7, 12]
    assert splits.validation is None
    assert splits.test.class_counts.tolist() == [1, 1, 1]


def test_parts_are_disjoint_and_counted(source):
    config = source(
        [60, 60, 60], test_fraction=1 / 3, imbalance_factor=10, validation_fraction=0.25
    )
    splits = load_data(config, 0)
    assert splits.test.class_counts.tolist() == [20, 20, 20]
    assert splits.train.class_counts.tolist() == [30, 9, 3]
    assert splits.validation.class_counts.tolist() == [10, 3, 1]
    numbers = _numbers(splits.train) + _numbers(splits.validation) + _numbers(splits.test)
    assert len(set(numbers)) == len(numbers)


def test_seed_decides_validation_alone(source):
    config = source([60, 60], test_fraction=0.5, imbalance_factor=2, validation_fraction=0.5)
    one, again, other = load_data(config, 1), load_data(config, 1), load_data(config, 2)
    assert _numbers(one.validation) == _numbers(again.validation)
    assert _numbers(one.validation) != _numbers(other.validation)
    assert _numbers(one.test) == _numbers(other.test)
    joined = [
        sorted(_numbers(splits.train) + _numbers(splits.validation)) for splits in (one, other)
    ]
    assert joined[0] == joined[1]


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_both_sides_keep_an_image_of_each_class(fraction):
    labels = np.repeat([0, 1], [2, 5])
    dataset = LongTailedDataset(np.zeros((7, 1, 2, 2), np.uint8), labels, ("a", "b"))
    kept, held = hold_out(dataset, fraction, 0, "validation split")
    small, large = (held, kept) if fraction < 0.5 else (kept, held)
    assert (small.class_counts.tolist(), large.class_counts.tolist()) == ([1, 1], [1, 4])


def test_hold_out_keeps_file_order(source):
    config = source([40, 40], test_fraction=0.25)
    splits = load_data(config, 0)
    assert _numbers(splits.train) == sorted(_numbers(splits.train))


def test_a_single_image_cannot_be_divided(source):
    with pytest.raises(
        UserError, match=r"validation split: 1 class\(es\) with a single image.*'1'"
    ):
        load_data(source([9, 1], test=True, validation_fraction=0.1), 0)


def test_missing_test_part(source):
    with pytest.raises(
        UserError, match=r"no test images; set data.test_path, or data.test_fraction"
    ):
        load_data(source([9, 9]), 0)


def test_test_images_of_another_shape(source):
    with pytest.raises(
        UserError, match=r"shape \(1, 8, 10\).* but test images \(1, 9, 9\); set data.image_size"
    ):
        load_data(source([9, 9], test=True, size=(9, 9)), 0)


def test_test_classes_of_another_name(tmp_path):
    for folder in ("train/a", "train/b", "test/a", "test/c"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / folder / "0.png")
    with pytest.raises(UserError, match="the first being 'c', are not in the training"):
        load_data(DataConfig(source="imagefolder", path=str(tmp_path)), 0)


def test_one_class_is_refused(source):
    with pytest.raises(UserError, match=r"one class, '0'"):
        load_data(source([9], test=True), 0)


def test_digits_made_long_tailed():
    splits = load_data(DataConfig(source="digits", imbalance_factor=20), 0)
    assert splits.train.class_counts.tolist() == [134, 96, 68, 49, 35, 25, 18, 13, 9, 6]


def test_info_counts_and_renders(source):
    config = source([60, 60, 60], test=True, imbalance_factor=10, validation_fraction=0.25)
    summary = describe(load_data(config, 0), config)
    assert [(row.group, row.train, row.validation, row.test) for row in summary.rows] == [
        ("many", 45, 15, 1),
        ("medium", 14, 4, 1),
        ("few", 4, 2, 1),
    ]
    assert (summary.image_shape, summary.imbalance_factor) == ((1, 8, 10), 45 / 4)
    output = StringIO()
    Console(width=120, file=output).print(data_table(summary))
    text = output.getvalue()
    assert "images: 63 train, 21 validation, 3 test" in text
    assert "3 classes with fewer than 10 test images, the fewest 1 of 0" in text
    bars = [line.count("█") for line in text.splitlines() if "█" in line]
    assert bars == [24, 7, 2]


@pytest.mark.parametrize("lacking", [["c"], ["b", "c"]])
def test_a_test_part_without_a_class_is_read_and_said(tmp_path, lacking):
    for part, names in (("train", "abc"), ("test", [n for n in "abc" if n not in lacking])):
        shift = 40 if part == "test" else 0  # no test image is a training image too
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("L", (8, 8), ord(name) + shift).save(tmp_path / part / name / "0.png")
            Image.new("L", (8, 8), ord(name) + shift + 9).save(tmp_path / part / name / "1.png")
    config = DataConfig(source="imagefolder", path=str(tmp_path))
    splits = load_data(config, 0)
    assert splits.test.class_names == ("a", "b", "c")
    assert splits.test.class_counts.tolist() == [0 if n in lacking else 2 for n in "abc"]
    (note,) = splits.notes
    assert note.startswith(f"{len(lacking)} of 3 classes have no test images ('{lacking[0]}'")
    output = StringIO()
    Console(width=400, file=output).print(data_table(describe(splits, config)))
    assert f"note: {note}" in output.getvalue()
