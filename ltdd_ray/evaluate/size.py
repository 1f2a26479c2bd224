"""The bytes of a set, labels counted, and what a kilobyte of it is worth."""

from math import prod

from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import picture_budget
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.evaluate.full_data import FULL_DATA

EXACT = 4  # bytes of a float32


def set_bytes(
    config: RunConfig, train: LongTailedDataset, name: str, images: int, labels: str
) -> int:
    """Bytes of the set ``name``: ``images`` pictures as stored images, and a label for each.

    A pixel value has one byte where 8 bits hold it exactly, in whatever form a file has it, and
    four elsewhere. A soft label has four bytes for each class; a hard one is the number of its
    class.
    """
    classes = train.num_classes
    stored = images if name in FULL_DATA else images // config.distill.pictures_per_image
    values = stored + (EXACT - 1) * _beyond_8_bits(config, train, name, stored)
    label = EXACT * classes if labels == "soft" else 1 if classes <= 256 else 2
    return values * prod(train.image_shape) + images * label


def _beyond_8_bits(config: RunConfig, train: LongTailedDataset, name: str, stored: int) -> int:
    """How many of the ``stored`` images have values that 8 bits do not hold.

    Real images have none, in an initial set too. Distilled images have, unless they are rounded,
    and so have mosaics, which are averages, noise, crops, and augmented repeats. The repeats are
    those of classes with too few images; `first_expert` may add some.
    """
    distill = config.distill
    of_engine = name == "initial" or name.startswith("distilled")
    if name in FULL_DATA or name == "distilled_8bit" or (of_engine and distill.bits):
        return 0
    if distill.pictures_per_image > 1:
        return stored
    if name != "initial":
        return stored if of_engine else 0
    noise = distill.engine in ("matching", "tgdd") and distill.initial_images == "noise"
    if noise or (distill.engine == "rldd" and distill.distribution.recovery.crops):
        return stored
    counts = train.class_counts.tolist()
    return sum(max(0, n - count) for n, count in zip(picture_budget(distill, counts), counts))


def per_kilobyte(accuracy: float, size: int) -> float:
    """Points of ``accuracy`` (0..1) for each 1,000 bytes of ``size``."""
    return 100 * accuracy / (size / 1000)
