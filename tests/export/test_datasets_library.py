"""The ``datasets`` library of Hugging Face reads what is exported and pushed."""

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest

from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.export.export import export
from ltdd_ray.export.push import push

Make = Callable[..., DistilledSet]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def load(*words: str, **settings) -> datasets.Dataset:
    return datasets.load_dataset(*words, split="train", **settings)


@pytest.mark.parametrize("channels", [1, 3])
def test_parquet(channels: int, make_set: Make, tmp_path: Path) -> None:
    distilled = make_set(channels)
    folder = push(distilled.save(tmp_path / "run"), "lab/birds", "mit", False, False).folder
    rows = load(str(folder))  # by the card, as from the Hub
    assert rows.features["label"].names == list(distilled.class_names)
    assert len(rows) == len(distilled)
    assert rows["label"] == distilled.classes.tolist()
    np.testing.assert_allclose(rows["soft_label"], distilled.soft_labels.numpy(), rtol=1e-6)
    pixels = [np.asarray(image) for image in rows["image"]]
    assert {image.ndim for image in pixels} == {2 if channels == 1 else 3}
    assert pixels[0].shape[:2] == tuple(distilled.images.shape[2:])


def test_image_folder(make_set: Make, tmp_path: Path) -> None:
    distilled = make_set()
    folder = export(distilled.save(tmp_path / "run"), "imagefolder", None).folder
    rows = load("imagefolder", data_dir=str(folder / "train"))
    assert rows.features["label"].names == sorted(distilled.class_names)
    assert len(rows) == len(distilled)
