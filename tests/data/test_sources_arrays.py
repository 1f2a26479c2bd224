"""Sources of decoded images, read from small generated files, and their errors."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets.cifar as torchvision_cifar

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.sources import load_source


def _levels(dataset) -> list[int]:
    """The grey level of each image."""
    return dataset.images[:, 0, 0, 0].tolist()


def _load(source: str, path: Path | str | None, **settings):
    return load_source(
        DataConfig(source=source, path=None if path is None else str(path), **settings)
    )


class TestDigits:
    def test_parts_are_balanced_and_disjoint(self):
        train, test = _load("digits", None)
        assert train.image_shape == test.image_shape == (1, 8, 8)
        assert train.class_counts.tolist() == [134] * 10
        assert test.class_counts.tolist() == [40] * 10
        assert train.images.max() == 255
        assert not {image.tobytes() for image in train.images} & {
            image.tobytes() for image in test.images
        }

    def test_resize(self):
        train, test = _load("digits", None, image_size=16)
        assert train.image_shape == test.image_shape == (1, 16, 16)


class TestCifar:
    @pytest.fixture
    def root(self, tmp_path, monkeypatch):
        """Two images of each class, in the published format but with other checksums."""
        monkeypatch.setattr(torchvision_cifar, "check_integrity", lambda *_: True)
        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
            labels = list(range(10)) if name == "test_batch" else [2 * k, 2 * k + 1]
            data = np.array(labels, np.uint8)[:, None] * np.ones((1, 3072), np.uint8)
            (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
        (folder / "batches.meta").write_bytes(
            pickle.dumps({"label_names": [f"name{k}" for k in range(10)]})
        )
        return tmp_path

    def test_reads_torchvision_files(self, root):
        train, test = _load("cifar10", root)
        assert train.image_shape == (3, 32, 32)
        assert train.class_names[3] == "name3"
        assert _levels(train) == train.labels.tolist() == list(range(10))
        assert _levels(test) == list(range(10))

    @pytest.mark.parametrize("source", ["cifar10", "cifar100"])
    def test_missing_files(self, tmp_path, source):
        with pytest.raises(UserError, match=r"data.download: true"):
            _load(source, tmp_path / "nowhere")


class TestNpz:
    @staticmethod
    def _arrays(shape: tuple[int, ...] = (4, 7, 9), **changes) -> dict[str, np.ndarray]:
        images = np.broadcast_to(
            np.arange(4, dtype=np.uint8).reshape(4, *[1] * (len(shape) - 1)), shape
        )
        labels = np.array([[0], [1], [1], [0]], np.uint8)
        arrays = {
            "train_images": images,
            "train_labels": labels,
            "test_images": images[:2] + np.uint8(50),
            "test_labels": labels[:2],
        }
        return {**arrays, **changes}

    @pytest.mark.parametrize(("shape", "channels"), [((4, 7, 9), 1), ((4, 7, 9, 3), 3)])
    def test_medmnist_keys(self, tmp_path, shape, channels):
        np.savez(tmp_path / "x.npz", **self._arrays(shape), val_images=np.array([None]))
        train, test = _load("npz", tmp_path / "x.npz")
        assert train.image_shape == test.image_shape == (channels, 7, 9)
        assert (_levels(train), train.labels.tolist()) == ([0, 1, 2, 3], [0, 1, 1, 0])
        assert (_levels(test), test.labels.tolist()) == ([50, 51], [0, 1])
        assert train.class_names == ("0", "1")

    def test_separate_test_file_and_flat_labels(self, tmp_path):
        arrays = self._arrays(train_labels=np.array([0, 1, 1, 0]))
        np.savez(
            tmp_path / "train.npz", **{key: arrays[key] for key in ("train_images", "train_labels")}
        )
        np.savez(
            tmp_path / "test.npz", **{key: arrays[key] for key in ("test_images", "test_labels")}
        )
        train, test = _load(
            "npz", tmp_path / "train.npz", test_path=str(tmp_path / "test.npz"), image_size=16
        )
        assert train.image_shape == (1, 16, 16)
        assert _levels(test) == [50, 51]
        assert _load("npz", tmp_path / "train.npz")[1] is None

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"train_images": np.zeros((4, 7, 9))}, r"train_images is float64 .*expected uint8"),
            (
                {"train_images": np.zeros((4, 7, 9, 9), np.uint8)},
                r"train_images is uint8 of shape \(4, 7, 9, 9\)",
            ),
            ({"train_labels": np.zeros((4, 14), int)}, r"train_labels is int64 of shape \(4, 14\)"),
            ({"train_labels": np.zeros(3, int)}, r"x.npz train: .*expected 4 whole numbers"),
            ({"train_labels": np.array([None] * 4)}, r"not a readable npz file of plain arrays"),
            (
                {"test_labels": np.array([0, 2])},
                r"x.npz test: label 2 is not in 0..1, the labels of",
            ),
        ],
    )
    def test_bad_arrays(self, tmp_path, changes, message):
        np.savez(tmp_path / "x.npz", **self._arrays(**changes))
        with pytest.raises(UserError, match=message):
            _load("npz", tmp_path / "x.npz")

    def test_missing_key_and_broken_file(self, tmp_path):
        np.savez(tmp_path / "x.npz", images=np.zeros(1))
        with pytest.raises(UserError, match=r"no array 'train_images'"):
            _load("npz", tmp_path / "x.npz")
        (tmp_path / "x.npz").write_bytes(b"PK no zip")
        with pytest.raises(UserError, match=r"x.npz is not a readable npz file"):
            _load("npz", tmp_path / "x.npz")
