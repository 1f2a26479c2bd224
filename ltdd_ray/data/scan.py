"""Class counts and image sizes of a folder, read without decoding the images."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ltdd_ray.common.errors import UserError
from ltdd_ray.data.names import class_name, printable
from ltdd_ray.data.sources.decode import read_head
from ltdd_ray.data.sources.folders import image_files, locate_parts, passed_over, subfolders

SIZES_SAMPLED = 200


@dataclass(frozen=True)
class Scan:
    """What :func:`scan_folder` found.

    Attributes:
        class_counts: training images by class name.
        has_test: whether the folder has test images.
        sizes: (width, height) of the images in a sample.
        short_side: median over the sample of the smaller of width and height.
        colour: whether any image of the sample is in colour.
        notes: sentences about what is not read.
    """

    root: Path
    class_counts: dict[str, int]
    has_test: bool
    sizes: frozenset[tuple[int, int]]
    short_side: int
    colour: bool
    notes: tuple[str, ...] = ()


def scan_folder(root: Path) -> Scan:
    """Scan ``root``/CLASS/* or ``root``/train/CLASS/*, as the source `imagefolder` reads them.

    Raises ``UserError`` for fewer than two classes, an empty class, a class with a single image if
    there are no test images, or an image that cannot be opened.
    """
    if not root.is_dir():
        raise UserError(
            f"{root}: {'not a' if root.exists() else 'no such'} folder; "
            "give one that holds a folder of images per class"
        )
    if printable(str(root)) != str(root):
        raise UserError(
            f"{printable(str(root))}: the name has characters that a config cannot hold; rename it"
        )
    train, test = locate_parts(root)
    files = {class_name(folder.name): image_files(folder) for folder in subfolders(train)}
    if len(files) < 2:
        raise UserError(
            f"{train}: expected a folder of images for each of at least two classes, "
            f"found folders: {', '.join(files) or 'none'}"
        )
    empty = next((name for name, found in files.items() if not found), None)
    if empty:
        raise UserError(f"{train / empty}: holds no image files; add some or remove the folder")
    single = next((name for name, found in files.items() if len(found) == 1), None)
    if single and test is None:
        raise UserError(
            f"{train / single}: holds a single image, which cannot be in both the training and "
            "the test part; add images, remove the folder, or put test images into "
            f"{root / 'test'} and the others into {root / 'train'}"
        )
    everything = [file for found in files.values() for file in found]
    heads = [
        read_head(str(file), file) for file in everything[:: -(-len(everything) // SIZES_SAMPLED)]
    ]
    sizes = [size for size, _ in heads]
    return Scan(
        root=root,
        class_counts={name: len(found) for name, found in files.items()},
        has_test=test is not None,
        sizes=frozenset(sizes),
        short_side=round(median(min(size) for size in sizes)),
        colour=any(colour for _, colour in heads),
        notes=tuple(passed_over(root, train, test)),
    )
