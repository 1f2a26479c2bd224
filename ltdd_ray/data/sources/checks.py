"""Checks that several loaders share."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ltdd_ray.common.address import is_address
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text
from ltdd_ray.common.hints import nearest_path
from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.mapped import MappedImages
from ltdd_ray.data.names import printable
from ltdd_ray.data.sources.labels import clean_names, refuse_absurd

_Kind = TypeVar("_Kind", bound=LabelledImages)
# Names of the parts inside of `data.path`, in any case; the first that exists is used.
TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "testing", "val", "valid", "validation")
TEST_NAMES = ("test", "val")  # beginnings, for files and folders of parquet


def required_path(config: DataConfig) -> str:
    if config.path is None:
        raise UserError(
            f"data.path is missing; set it to the place of the images of source {config.source}"
        )
    return config.path


def existing(path: str | Path, key: str) -> Path:
    """``path``. Raises ``UserError`` naming ``key`` unless it is a file or a folder."""
    path = Path(path)
    try:
        if path.is_dir() or path.is_file():
            return path
        there = path.exists()
    except (OSError, ValueError) as error:  # too long, a NUL inside, no permission
        raise UserError(
            f"{key}: {printable(str(path))} cannot be used as a path ({error})"
        ) from None
    if there:
        raise UserError(
            f"{key}: {path} is neither a file nor a folder but a pipe, socket or device; "
            f"set {key} to the place of the images"
        )
    raise not_there(key, path)


def read_lines(path: Path, key: str) -> list[str]:
    """The lines of a UTF-8 text file, without a byte order mark."""
    file = existing(path, key)
    try:
        return read_text(file, "utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); correct {key}") from None


def not_there(key: str, path: str | Path) -> UserError:
    """The error for a place that holds nothing; ``key`` is where it was written."""
    seen = "" if Path(path).is_absolute() or is_address(path) else f", seen from {Path.cwd()}"
    return UserError(
        f"{key}: {path} does not exist{seen}; set it to the place of the images with "
        f"--set {key}=..., or in the config{'' if is_address(path) else nearest_path(path)}"
    )


def without_test_images(names: Sequence[str], classes: int) -> list[str]:
    """A note about the classes ``names`` that cannot be measured, or none."""
    if not names:
        return []
    some = ", ".join(map(repr, names[:5])) + (
        f" and {len(names) - 5} more" if len(names) > 5 else ""
    )
    return [
        f"{len(names)} of {classes} classes have no test images ({some}); accuracies leave them "
        "out, the balanced mean too; to measure them, move an image of each to the test part, or "
        "leave the test part out and set data.test_fraction"
    ]


def strange_classes(strange: Sequence[str], train: Sequence[str]) -> UserError:
    """The error for classes of the test part that the training part, ``train``, lacks."""
    if not strange:
        return UserError("training or test classes have names that stand twice; rename one of them")
    near = difflib.get_close_matches(
        strange[0].lower().strip(), [name.lower() for name in train], 1
    )
    hint = f", where {next(n for n in train if n.lower() == near[0])!r} is near" if near else ""
    return UserError(
        f"training and test classes differ: {len(strange)} of the test part, the first being "
        f"{strange[0]!r}, are not in the training part{hint}; give them the same names, or remove "
        "the test images of these classes"
    )


def named_dataset(
    where: str,
    images: np.ndarray | MappedImages,
    labels: np.ndarray,
    class_names: Sequence[str],
    notes: Sequence[str] = (),
) -> LongTailedDataset:
    """A dataset whose errors begin with ``where``, the place of its images."""
    refuse_absurd(where, labels)
    return _named(LongTailedDataset, where, images, labels, class_names, notes)


def named_test_images(
    where: str,
    images: np.ndarray | MappedImages,
    labels: np.ndarray,
    class_names: Sequence[str],
    notes: Sequence[str] = (),
) -> LabelledImages:
    """Like :func:`named_dataset`, for test images; a class may have none."""
    return _named(LabelledImages, where, images, labels, class_names, notes)


def _named(
    kind: type[_Kind],
    where: str,
    images: np.ndarray | MappedImages,
    labels: np.ndarray,
    class_names: Sequence[str],
    notes: Sequence[str],
) -> _Kind:
    try:
        return kind(images, labels, clean_names(class_names), tuple(notes))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
