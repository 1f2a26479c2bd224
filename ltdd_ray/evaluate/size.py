"""The bytes of a set, labels counted, and what a kilobyte of it is worth."""

from math import prod

from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.evaluate.full_data import FULL_DATA

EXACT = 4  # bytes of a float32


def set_bytes(
    config: RunConfig, train: LongTailedDataset, name: str, images: int, labels: str
) -> int:
    """Bytes of the set ``name``: ``images`` pictures as stored images, and a label for each.

    A pixel value has one byte where 8 bits hold it exactly: in real images, and in sets that are
    rounded. It has four in other distilled images, and in mosaics of real ones, which are averages.
    A soft label has four bytes for each class; a hard one is the number of its class.
    """
    classes, per_image = train.num_classes, config.distill.pictures_per_image
    if name in FULL_DATA:
        value, per_image = 1, 1
    elif name == "initial" or name.startswith("distilled"):
        value = 1 if config.distill.bits or name == "distilled_8bit" else EXACT
    else:
        value = 1 if per_image == 1 else EXACT
    label = EXACT * classes if labels == "soft" else 1 if classes <= 256 else 2
    return images // per_image * prod(train.image_shape) * value + images * label


def per_kilobyte(accuracy: float, size: int) -> float:
    """Points of ``accuracy`` (0..1) for each 1,000 bytes of ``size``."""
    return 100 * accuracy / (size / 1000)
