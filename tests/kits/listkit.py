"""Thirty small JPEGs and the class lists that name them, for the source `imagenet_lt`."""

from pathlib import Path

import numpy as np
from PIL import Image

from ltdd_ray.config import DataConfig
from ltdd_ray.data.load import DataSplits

COUNTS = {"n01": 12, "n02": 8, "n03": 4}


def write_listed_images(folder: Path) -> DataConfig:
    """24 training images of three classes and 6 test images; each is 5 grey levels lighter."""
    lines = [
        f"train/{name}/{name}_{at}.JPEG {k}"
        for k, (name, count) in enumerate(COUNTS.items())
        for at in range(count)
    ]
    tests = [f"val/{name}/val {at}.JPEG {k}" for k, name in enumerate(COUNTS) for at in range(2)]
    for at, line in enumerate([*lines, *tests]):
        file = folder / "images" / line.rpartition(" ")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("L", (20 + at, 16), 40 + 5 * at)
        image.convert("RGB" if at % 3 else "L").save(file, "jpeg", quality=95)
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    (folder / "test.txt").write_text("\n".join(tests))
    return DataConfig(
        source="imagenet_lt",
        path=str(folder / "images"),
        train_list=str(folder / "train.txt"),
        test_list=str(folder / "test.txt"),
        cache=str(folder / "cache"),
        image_size=8,
        normalisation="standard",
    )


def grey_levels(images: np.ndarray) -> list[int]:
    """The level in the middle of each image of uint8 (N, 3, 8, 8)."""
    return images[:, :, 4, 4].astype(int).mean(1).round().astype(int).tolist()


def assert_as_listed(splits: DataSplits) -> None:
    """``splits`` hold exactly the images of :func:`write_listed_images`, in the lists' order."""
    train, test = splits.train, splits.test
    assert train.class_names == test.class_names == tuple(COUNTS)
    assert train.class_counts.tolist() == list(COUNTS.values())
    assert test.class_counts.tolist() == [2, 2, 2]
    assert train.image_shape == (3, 8, 8)
    found = grey_levels(train.images[:]) + grey_levels(test.images[:])
    assert np.abs(found - (40 + 5 * np.arange(30))).max() <= 1
