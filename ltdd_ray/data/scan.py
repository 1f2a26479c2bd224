"""Class counts and image sizes of a folder, read without decoding the images."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import refuse_impossible
from ltdd_ray.common.hints import nearest_path
from ltdd_ray.common.shell import command
from ltdd_ray.common.spacing import evenly_spaced
from ltdd_ray.data.names import class_name, printable
from ltdd_ray.data.sources.checks import strange_classes, without_test_images
from ltdd_ray.data.sources.decode import read_head, refuse_unreadable_heic
from ltdd_ray.data.sources.folders import image_files, locate_parts, passed_over, subfolders

SIZES_SAMPLED = 200


@dataclass(frozen=True)
class Scan:
    """What :func:`scan_folder` found.

    Attributes:
        class_counts: training images by class name.
        test: the folder of the test part, if there is one.
        sizes: (width, height) of the images in a sample.
        short_side: median over the sample of the smaller of width and height.
        colour: whether any image of the sample is in colour.
        notes: sentences about what is not read.
        test_counts: images of the test part by class name; 0 for a class that it lacks.
    """

    root: Path
    class_counts: dict[str, int]
    test: Path | None
    sizes: frozenset[tuple[int, int]]
    short_side: int
    colour: bool
    notes: tuple[str, ...] = ()
    test_counts: dict[str, int] = field(default_factory=dict)

    @property
    def test_images(self) -> int:
        return sum(self.test_counts.values())


def scan_folder(root: Path) -> Scan:
    """Scan ``root``/CLASS/* or ``root``/train/CLASS/*, as the source `imagefolder` reads them.

    Raises ``UserError`` for fewer than two classes, an empty class, a class with a single image if
    there are no test images, or an image that cannot be opened.
    """
    refuse_impossible(str(root))
    if not root.is_dir():
        raise UserError(
            f"{root}: {'not a' if root.exists() else 'no such'} folder; "
            "give one that holds a folder of images per class"
            f"{'' if root.exists() else nearest_path(root)}"
        )
    if printable(str(root)) != str(root):
        raise UserError(
            f"{printable(str(root))}: the name has characters that a config cannot hold; rename it"
        )
    train, test = locate_parts(root)
    files = {class_name(folder.name): image_files(folder) for folder in subfolders(train)}
    if len(files) < 2:
        raise _too_few_classes(train)
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
    refuse_unreadable_heic(everything)
    there = {class_name(f.name): image_files(f) for f in (subfolders(test) if test else ())}
    refuse_unreadable_heic(file for found in there.values() for file in found)
    sample = (everything[i] for i in evenly_spaced(len(everything), SIZES_SAMPLED))
    heads = [read_head(str(file), file) for file in sample]
    sizes = [size for size, _ in heads]
    return Scan(
        root=root,
        class_counts={name: len(found) for name, found in files.items()},
        test=test,
        sizes=frozenset(sizes),
        short_side=round(median(min(size) for size in sizes)),
        colour=any(colour for _, colour in heads),
        notes=(*passed_over(root, train, test), *(_unmeasured(files, there) if test else ())),
        test_counts={name: len(there.get(name, ())) for name in files} if test else {},
    )


def _unmeasured(files: dict[str, list[Path]], test: dict[str, list[Path]]) -> list[str]:
    """A note about classes that the test part lacks."""
    there = {name for name, found in test.items() if found}
    if there - files.keys():
        raise strange_classes(sorted(there - files.keys()), sorted(files))
    return without_test_images([name for name in files if name not in there], len(files))


def _too_few_classes(train: Path) -> UserError:
    folders, loose = subfolders(train), len(image_files(train))
    found = f"one class folder, {folders[0].name}" if folders else "no class folders"
    if loose:
        found += f" and {loose:,} image files outside of any"
    inside = [folder for folder in folders if len(subfolders(folder)) > 1]
    remedy = (
        f"if the classes are the folders in {inside[0]}, run `{command('init', inside[0])}`"
        if inside
        else "move the images of each class into a folder of its own, as "
        f"{train / 'CLASS' / 'image.jpg'}, at least two classes, and run the same command again"
    )
    return UserError(f"{train}: holds {found}; {remedy}")
