"""One loader per value of ``data.source``.

A loader takes the config and returns (train, test); test is None if the source has no test images.
It reads all images. :mod:`ltdd_ray.data.load` applies the long-tailed profile, holds images out and
checks that the two parts fit together.
"""

from collections.abc import Callable

from ltdd_ray.config import DataConfig
from ltdd_ray.config.data import SOURCES
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.sources.arrays import load_cifar, load_digits, load_npz
from ltdd_ray.data.sources.folders import load_imagefolder, load_tiny_imagenet
from ltdd_ray.data.sources.imagenet import ShardWriter, load_imagenet_lt, write_in_process
from ltdd_ray.data.sources.parquet import load_parquet

Loader = Callable[[DataConfig], tuple[LongTailedDataset, LabelledImages | None]]
_LOADERS: dict[str, Loader] = {
    "digits": load_digits,
    "cifar10": load_cifar,
    "cifar100": load_cifar,
    "tiny_imagenet": load_tiny_imagenet,
    "parquet": load_parquet,
    "imagefolder": load_imagefolder,
    "npz": load_npz,
}


def load_source(
    config: DataConfig, write_shards: ShardWriter = write_in_process
) -> tuple[LongTailedDataset, LabelledImages | None]:
    """Load what ``config.source`` names; only ``imagenet_lt`` decodes into shards.

    Raises ``UserError`` naming the file or key at fault and the remedy.
    """
    if config.source == "imagenet_lt":
        return load_imagenet_lt(config, write_shards)
    loader = SOURCES.get(config.source) or _LOADERS[config.source]
    return loader(config)


def register_source(name: str, loader: Loader) -> None:
    """Make ``data.source: NAME`` load the images of ``loader``.

    ``loader(config)`` returns (training images, test images), each a
    :class:`~ltdd_ray.data.dataset.LongTailedDataset`; the second is None where there are no test
    images. ``config`` has ``path``, ``test_path`` and ``image_size``, which the loader may use. The
    long-tailed profile and held-out images are cut afterwards, as for every source.
    Raises ``UserError`` for a built-in name.
    """
    SOURCES.register(name, loader)
