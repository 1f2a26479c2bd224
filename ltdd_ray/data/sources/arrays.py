"""Sources of decoded images: scikit-learn's digits, torchvision's CIFAR files, MedMNIST's npz.

N images, K channels, H height, W width. scikit-learn and torchvision are imported where they are
used, because each takes a second.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.sources.checks import existing, named_dataset, required_path
from ltdd_ray.data.sources.decode import resize_images

# The rarest digit has 174 images. More of the other digits are left out, to balance both parts.
DIGITS_TEST, DIGITS_TRAIN = 40, 134
# Not the run's seed, so that all runs are evaluated on the same test images.
DIGITS_SPLIT_SEED = 0


def load_digits(config: DataConfig) -> tuple[LongTailedDataset, LongTailedDataset]:
    """scikit-learn's 8 x 8 grey digits (K = 1), 134 training and 40 test images per class."""
    from sklearn.datasets import load_digits as read_digits

    pixels, labels = map(np.asarray, read_digits(return_X_y=True))  # (N, 64) in 0..16, (N,)
    scaled = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    dataset = named_dataset(
        "digits", resize_images(scaled, config.image_size), labels, [str(k) for k in range(10)]
    )
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
    return dataset.subset(np.concatenate(train)), dataset.subset(np.concatenate(test))


def load_cifar(config: DataConfig) -> tuple[LongTailedDataset, LongTailedDataset]:
    """CIFAR-10 or CIFAR-100, as torchvision stores them below ``path``.

    With ``download`` set, missing files are downloaded.

    torchvision checks the files' checksums before it opens them.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    reader = CIFAR10 if config.source == "cifar10" else CIFAR100
    root = Path(required_path(config)).expanduser()
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
        images = resize_images(
            np.ascontiguousarray(source.data.transpose(0, 3, 1, 2)), config.image_size
        )
        parts.append(named_dataset(f"{root}", images, np.asarray(source.targets), source.classes))
    return parts[0], parts[1]


def load_npz(config: DataConfig) -> tuple[LongTailedDataset, LongTailedDataset | None]:
    """A file with MedMNIST's keys ``train_images``, ``train_labels``, and the same for ``test``.

    Images are uint8 (N, H, W) or (N, H, W, K), labels (N,) or (N, 1). The test arrays are read from
    ``test_path`` if it is given. ``val_*`` is ignored: as for every source, validation images are
    cut from the training images. Classes are named by their numbers.
    """
    path = existing(required_path(config), "data.path")
    file = _read_npz(path)
    images, labels = _npz_part(path, file, "train", config.image_size)
    class_names = [str(k) for k in range(int(labels.max(initial=0)) + 1)]
    train = named_dataset(f"{path} train", images, labels, class_names)
    if config.test_path is not None:
        path = existing(config.test_path, "data.test_path")
        file = _read_npz(path)
    elif "test_images" not in file:
        return train, None
    images, labels = _npz_part(path, file, "test", config.image_size)
    return train, named_dataset(f"{path} test", images, labels, class_names)


def _read_npz(path: Path) -> Mapping[str, np.ndarray]:
    """The training and test arrays of the file; pickled objects are refused."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if key.startswith(("train_", "test_"))}
    except Exception as error:  # of numpy, zipfile or zlib
        raise UserError(
            f"{path} is not a readable npz file of plain arrays ({error}); "
            "export or download it again"
        ) from None


def _npz_part(
    path: Path, file: Mapping[str, np.ndarray], part: str, image_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, K, H, W) and labels (N,)."""
    for key in (f"{part}_images", f"{part}_labels"):
        if key not in file:
            raise UserError(
                f"{path} has no array {key!r}; it needs {part}_images and {part}_labels, "
                "as in MedMNIST"
            )
    images, labels = file[f"{part}_images"], file[f"{part}_labels"]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        raise UserError(
            f"{path}: {part}_images is {images.dtype} of shape {images.shape}; "
            "expected uint8 (N, H, W) or (N, H, W, 1 or 3)"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path}: {part}_labels is {labels.dtype} of shape {labels.shape}; "
            "expected one whole number per image, (N,) or (N, 1)"
        )
    return resize_images(
        np.ascontiguousarray(images.transpose(0, 3, 1, 2)), image_size
    ), labels.astype(np.int64)
