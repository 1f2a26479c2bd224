"""Checks that several loaders share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.mapped import MappedImages

# Names of the test part inside of `data.path`; the first that exists is used.
TEST_NAMES = ("test", "val")


def required_path(config: DataConfig) -> str:
    if config.path is None:
        raise UserError(
            f"data.path is missing; set it to the place of the images of source {config.source}"
        )
    return config.path


def existing(path: str | Path, key: str) -> Path:
    """``path``. Raises ``UserError`` naming ``key`` if it does not exist."""
    path = Path(path).expanduser()
    if not path.exists():
        raise not_there(key, path)
    return path


def not_there(key: str, path: str | Path) -> UserError:
    """The error for a place that holds nothing; ``key`` is where it was written."""
    seen = "" if Path(path).is_absolute() or "://" in str(path) else f", seen from {Path.cwd()}"
    return UserError(
        f"{key}: {path} does not exist{seen}; set it to the place of the images with "
        f"--set {key}=..., or in the config"
    )


def named_dataset(
    where: str, images: np.ndarray | MappedImages, labels: np.ndarray, class_names: Sequence[str]
) -> LongTailedDataset:
    """A dataset whose errors begin with ``where``, the place of its images."""
    try:
        return LongTailedDataset(images, labels, tuple(class_names))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
