from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig, RunConfig
from ltdd_ray.data.count_estimate import CountEstimate, estimate_counts
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.info import data_table, describe
from ltdd_ray.data.load import load_data
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.data.sources.folders import load_unlabelled
from ltdd_ray.data.split import labelled_subset

DIGITS = {"source": "digits", "imbalance_factor": 20}


def digits(**settings) -> DataConfig:
    return DataConfig.model_validate({**DIGITS, **settings})


def test_one_label_of_each_class_is_always_known() -> None:
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
    assert {image.tobytes() for image in splits.train.images} <= {
        image.tobytes() for image in everything.images
    }


def test_unlabelled_images_improve_the_count_of_digits() -> None:
    estimates = [
        load_data(digits(labelled_fraction=0.2, class_counts="estimate"), seed).estimate
        for seed in range(3)
    ]
    for found in estimates:
        assert (
            found is not None
            and found.true is not None
            and found.true.tolist() == [134, 96, 68, 49, 35, 25, 18, 13, 9, 6]
        )
        assert found.maximum_likelihood.sum() == pytest.approx(453) and found.prior.min() > 0
        errors = found.errors()
        assert 0 < errors["maximum_likelihood"] < errors["proportional"] < 0.2


def test_an_error_is_the_share_of_images_in_a_wrong_class() -> None:
    counts = np.array([3.0, 1.0])
    found = CountEstimate(
        proportional=counts,
        black_box=counts[::-1],
        maximum_likelihood=counts,
        true=counts.astype(int),
    )
    assert found.errors() == {"proportional": 0, "black_box": 0.5, "maximum_likelihood": 0}


def test_too_few_labels_to_hold_any_out() -> None:
    dataset = LongTailedDataset(np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1]), ("a", "b"))
    with pytest.raises(
        UserError, match=r"too few labels are known to hold some out; label more images"
    ):
        estimate_counts(dataset, np.zeros((7, 1, 4, 4), np.uint8), 0)


def digit_folders(root: Path, labelled: int = 3) -> DataConfig:
    """Digits as files: every ``labelled``-th in class folders, the others without a class."""
    train = load_data(digits(), 0).train
    for number, (image, label) in enumerate(zip(train.images, train.labels)):
        folder = root / (f"train/{label}" if number % labelled == 0 else f"more/{number % 2}")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(folder / f"{number}.png")
    return DataConfig(
        source="imagefolder",
        path=str(root / "train"),
        test_fraction=0.2,
        class_counts="estimate",
        unlabelled=str(root / "more"),
    )


def test_unlabelled_files_are_counted_in(tmp_path: Path) -> None:
    config = digit_folders(tmp_path, labelled=2)
    splits = load_data(config, 0)
    found = splits.estimate
    assert found is not None and found.true is None and found.errors() == {}
    unlabelled = len(list((tmp_path / "more").rglob("*.png")))
    assert found.maximum_likelihood.sum() == pytest.approx(len(splits.train) + unlabelled)
    assert not np.allclose(found.prior, splits.train.prior, atol=1e-3), (
        "the unlabelled images have a say"
    )

    output = StringIO()
    Console(width=140, file=output).print(data_table(describe(splits, config)))
    assert "estimated of all" in output.getvalue() and "wrong class" not in output.getvalue()


def test_unlabelled_images_of_another_kind_are_refused(tmp_path: Path) -> None:
    grey = np.zeros((8, 8), np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert load_unlabelled(str(tmp_path), None, (3, 8, 8)).shape == (1, 3, 8, 8)
    with pytest.raises(
        UserError,
        match=r"have shape \(1, 8, 8\) .* but labelled ones \(1, 9, 9\); set data.image_size",
    ):
        load_unlabelled(str(tmp_path), None, (1, 9, 9))
    Image.fromarray(np.stack([grey] * 3, 2)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"convert the images to grey if only they are in colour"):
        load_unlabelled(str(tmp_path), None, (1, 8, 8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"data.unlabelled: .*empty holds no image files"):
        load_unlabelled(str(tmp_path / "empty"), None, (1, 8, 8))
    with pytest.raises(UserError, match=r"data.unlabelled: .*gone does not exist"):
        load_unlabelled(str(tmp_path / "gone"), None, (1, 8, 8))


def test_matching_uses_the_estimate(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    known = prepare_data(
        tiny(tmp_path, data={**DIGITS, "normalisation": "standard", "labelled_fraction": 0.2})
    )
    estimated = prepare_data(
        tiny(
            tmp_path,
            data={
                **DIGITS,
                "normalisation": "standard",
                "labelled_fraction": 0.2,
                "class_counts": "estimate",
            },
        )
    )
    assert np.array_equal(known.prior, known.train.prior)
    assert estimated.estimate is not None and np.array_equal(
        estimated.prior, estimated.estimate.prior
    )
    assert known.train.fingerprint == estimated.train.fingerprint, "the same experts serve both"
    assert estimated.prior.sum() == pytest.approx(1)


def test_info_shows_estimate_and_truth() -> None:
    config = digits(labelled_fraction=0.2, class_counts="estimate")
    output = StringIO()
    Console(width=140, file=output).print(data_table(describe(load_data(config, 0), config)))
    text = output.getvalue()
    assert "estimated of all" in text and " 134 " in text
    assert "images counted in a wrong class: proportional" in text and "maximum likelihood" in text


def test_an_estimate_needs_unlabelled_images() -> None:
    with pytest.raises(
        ValueError, match=r"set data.unlabelled to a folder of them, or data.labelled_fraction"
    ):
        digits(class_counts="estimate")
    with pytest.raises(ValueError, match=r"data.class_counts estimate alone"):
        digits(unlabelled="more")
    with pytest.raises(ValueError, match=r"set one of them"):
        digits(unlabelled="more", labelled_fraction=0.2, class_counts="estimate")
