"""Sources of decoded images: scikit-learn's digits, torchvision's CIFAR files, MedMNIST's npz.

N images, K channels, H height, W width. scikit-learn and torchvision are imported where they are
used, because each takes a second.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.names import printable
from ltdd_ray.data.sources.checks import existing, named_dataset, named_test_images, required_path
from ltdd_ray.data.sources.decode import lay_on, resize_images
from ltdd_ray.data.sources.labels import (
    clean_names,
    names_of_numbers,
    number_names,
    shifted,
    whole_numbers,
)

# The rarest digit has 174 images. More of the other digits are left out, to balance both parts.
DIGITS_TEST, DIGITS_TRAIN = 40, 134
# Not the run's seed, so that all runs are evaluated on the same test images.
DIGITS_SPLIT_SEED = 0
# Photographs hardly compress. An npz that unpacks to more than both was made to fill memory.
UNPACKED_BYTES, UNPACKED_RATIO = 256 * 2**20, 100


def load_digits(config: DataConfig) -> tuple[LongTailedDataset, LongTailedDataset]:
    """scikit-learn's 8 x 8 grey digits (K = 1), 134 training and 40 test images per class."""
    from sklearn.datasets import load_digits as read_digits

    pixels, labels = map(np.asarray, read_digits(return_X_y=True))  # (N, 64) in 0..16, (N,)
    scaled = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    notes: list[str] = []
    images = resize_images(scaled, config.image_size, notes)
    dataset = named_dataset("digits", images, labels, [str(k) for k in range(10)])
    test, train = [], []
    for k in range(dataset.num_classes):
        members = np.flatnonzero(dataset.labels == k)
        order = members[
            torch.randperm(
                len(members), generator=generator(DIGITS_SPLIT_SEED, "digits test split", k)
            ).numpy()
        ]
        test.append(order[:DIGITS_TEST])
        train.append(order[DIGITS_TEST : DIGITS_TEST + DIGITS_TRAIN])
    kept = replace(dataset.subset(np.concatenate(train)), notes=tuple(notes))
    return kept, dataset.subset(np.concatenate(test))


def load_cifar(config: DataConfig) -> tuple[LongTailedDataset, LongTailedDataset]:
    """CIFAR-10 or CIFAR-100, as torchvision stores them below ``path``.

    With ``download`` set, missing files are downloaded.

    torchvision checks the files' checksums before it opens them.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    reader = CIFAR10 if config.source == "cifar10" else CIFAR100
    root = Path(required_path(config))  # the config has expanded its `~`
    parts = []
    for train in (True, False):
        try:
            source = reader(root, train=train, download=config.download)
        except (RuntimeError, OSError) as error:
            remedy = (
                "check the network and data.path"
                if config.download
                else "set data.download: true or correct data.path"
            )
            raise UserError(
                f"data.path {root}: no intact {config.source} files of torchvision ({error}); "
                f"{remedy}"
            ) from None
        notes: list[str] = []
        images = np.ascontiguousarray(source.data.transpose(0, 3, 1, 2))
        images, labels = resize_images(images, config.image_size, notes), np.asarray(source.targets)
        parts.append(named_dataset(f"{root}", images, labels, source.classes, notes))
    return parts[0], parts[1]


def load_npz(config: DataConfig) -> tuple[LongTailedDataset, LabelledImages | None]:
    """A file with MedMNIST's keys ``train_images``, ``train_labels``, and the same for ``test``.

    Images are uint8 (N, H, W) or (N, H, W, K); (N, K, H, W) is taken where the last axis cannot be
    channels. K is 1, 3, or 4 with alpha. Labels are whole numbers or names, (N,) or (N, 1), or one
    column per class, (N, C). The test arrays are read from ``test_path`` if it is given. ``val_*``
    is ignored: as for every source, validation images are cut from the training images.
    """
    path = existing(required_path(config), "data.path")
    file = _read_npz(path)
    notes: list[str] = []
    images, labels = _npz_part(path, file, "train", config, notes)
    if labels.dtype.kind == "U":
        shift, names = 0, tuple(sorted(set(labels.tolist())))
        numbers = number_names(f"{path} train", labels.tolist(), names)
    else:
        shift, names = names_of_numbers(f"{path} train", labels)
        numbers = labels - shift
    notes += _passed_over(path, config.test_path is not None)
    train = named_dataset(f"{path} train", images, numbers, names, notes)
    if config.test_path is not None:
        path = existing(config.test_path, "data.test_path")
        file = _read_npz(path)
    elif "test_images" not in file:
        return train, None
    notes = []
    images, test = _npz_part(path, file, "test", config, notes)
    if (test.dtype.kind == "U") != (labels.dtype.kind == "U"):
        raise UserError(f"{path}: only one part's labels are names; write both in the same way")
    where = f"{path} test"
    numbers = (
        number_names(where, test.tolist(), names)
        if test.dtype.kind == "U"
        else shifted(where, test, shift, names)
    )
    return train, named_test_images(where, images, numbers, names, notes)


def _passed_over(path: Path, without_test: bool) -> list[str]:
    """A note about arrays of the file that are not read."""
    read = {f"{part}_{what}" for part in ("train", "test") for what in ("images", "labels")}
    if without_test:
        read = {key for key in read if key.startswith("train")}
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    others = sorted(set(names) - read)
    return (
        [f"{path}: {len(others)} array(s) are not read, for example {printable(others[0])}"]
        if others
        else []
    )


def _read_npz(path: Path) -> Mapping[str, np.ndarray]:
    """The training and test arrays of the file; pickled objects are refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        size = path.stat().st_size
        if unpacked > max(UNPACKED_BYTES, UNPACKED_RATIO * size):
            raise UserError(
                f"{path}: {size:,} bytes unpack to {unpacked:,} bytes, which images do not; "
                "export it again"
            )
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if key.startswith(("train_", "test_"))}
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{path} holds {unpacked:,} bytes of arrays, and reading them asked for more memory "
            f"than there is ({error or 'no size named'}); free some memory, or export the file "
            "again if an array's header names a wrong shape"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}; check the file, its permissions "
            "and the disk"
        ) from None
    except Exception as error:  # of numpy, zipfile or zlib
        raise UserError(
            f"{path} is not a readable npz file of plain arrays ({printable(str(error))}); "
            "export or download it again"
        ) from None


def _npz_part(
    path: Path, file: Mapping[str, np.ndarray], part: str, config: DataConfig, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, K, H, W) and labels (N,), int64 or text."""
    for key in (f"{part}_images", f"{part}_labels"):
        if key not in file:
            raise UserError(
                f"{path} has no array {key!r}; it needs {part}_images and {part}_labels, "
                "as in MedMNIST"
            )
    images = _channels_first(f"{path}: {part}_images", file[f"{part}_images"])
    if images.shape[1] == 4:
        images = lay_on(config.background, images)
        notes.append(f"{path}: {part}_images was laid on data.background {config.background}")
    labels = _plain_labels(f"{path}: {part}_labels", file[f"{part}_labels"])
    return resize_images(np.ascontiguousarray(images), config.image_size, notes), labels


def _channels_first(where: str, images: np.ndarray) -> np.ndarray:
    """uint8 (N, K, H, W), K 1, 3 or 4."""
    if images.dtype == np.uint8 and images.size and images.ndim == 3:
        return images[:, None]
    if images.dtype == np.uint8 and images.size and images.ndim == 4:
        if images.shape[3] in (1, 3, 4):
            return images.transpose(0, 3, 1, 2)
        if images.shape[1] in (1, 3, 4):
            return images
    remedy = "give each image 1, 3 or 4 channels"
    if images.dtype != np.uint8:
        scale = "multiply values in 0..1 by 255" if images.dtype.kind == "f" else "scale to 0..255"
        remedy = f"{scale} and convert them to uint8"
    raise UserError(
        f"{where} is {images.dtype} of shape {images.shape}; expected uint8 (N, H, W) or "
        f"(N, H, W, K) with K = 1, 3 or 4; {remedy}"
    )


def _plain_labels(where: str, labels: np.ndarray) -> np.ndarray:
    """int64 or text (N,), from (N,), (N, 1) or one column per class (N, C)."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "iubf" and labels.shape[1]:
        ones = labels == 1
        if (ones | (labels == 0)).all() and (ones.sum(1) == 1).all():
            return ones.argmax(1)
    if labels.ndim == 1 and labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{where}: a class name is no UTF-8; store names as text") from None
    if labels.ndim != 1 or labels.dtype.kind not in "iubfU":
        raise UserError(
            f"{where} is {labels.dtype} of shape {labels.shape}; expected one whole number or name "
            "per image, (N,) or (N, 1), or one column per class with a single 1 in each row"
        )
    if labels.dtype.kind == "U":
        return np.array(clean_names(labels.tolist()), dtype=str)
    return whole_numbers(where, labels)
