"""Folders of image files: one folder per class, and Tiny-ImageNet as it is distributed."""

from pathlib import Path

import numpy as np
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.sources.checks import TEST_NAMES, existing, named_dataset, required_path
from ltdd_ray.data.sources.decode import decode_images


def load_imagefolder(config: DataConfig) -> tuple[LongTailedDataset, LongTailedDataset | None]:
    """Read ``path``/train/CLASS/* and ``path``/test/CLASS/* (or val), or else ``path``/CLASS/*.

    ``test_path``, if given, holds the folders of the test classes. Classes are numbered by sorted
    name. Files without the extension of an image format are ignored.
    """
    train_root, test_root = locate_parts(existing(required_path(config), "data.path"))
    if config.test_path is not None:
        test_root = existing(config.test_path, "data.test_path")
    train = _read_class_folders(train_root, config.image_size)
    return train, None if test_root is None else _read_class_folders(test_root, config.image_size)


def load_unlabelled(
    path: str, image_size: int | None, image_shape: tuple[int, int, int]
) -> np.ndarray:
    """All images below ``path``, uint8 (N, *``image_shape``).

    Grey images become RGB if ``image_shape``, that of the labelled images (K, H, W), has three
    channels. Raises ``UserError`` if there are no images, or if their shape differs otherwise.
    """
    root = existing(path, "data.unlabelled")
    files = [file for folder in sorted([root, *root.rglob("*/")]) for file in image_files(folder)]
    if not files:
        raise UserError(f"data.unlabelled: {root} holds no image files; name the folder that does")
    images = decode_images(((str(file), file) for file in files), image_size)
    if images.shape[2:] != image_shape[1:] or images.shape[1] > image_shape[0]:
        raise UserError(
            f"data.unlabelled: images in {root} have shape {images.shape[1:]} (channels, height, "
            f"width) but labelled ones {image_shape}; set data.image_size if the sizes differ, and "
            "convert the images to grey if only they are in colour"
        )
    return np.broadcast_to(images, (len(images), *image_shape))


def locate_parts(root: Path) -> tuple[Path, Path | None]:
    """(folder of the training classes, folder of the test classes or None)."""
    if not subfolders(root / "train"):
        return root, None
    return root / "train", next(
        (root / name for name in TEST_NAMES if subfolders(root / name)), None
    )


def load_tiny_imagenet(config: DataConfig) -> tuple[LongTailedDataset, LongTailedDataset]:
    """Read wnids.txt, train/WNID/images/*, val/images/* and val/val_annotations.txt.

    Classes are numbered by sorted WordNet id, as in the published subsets. They are named by the
    first synonym in words.txt, or by their id without that file. The public validation images are
    the test set.
    """
    root = existing(required_path(config), "data.path")
    wnids = sorted(_read_lines(root / "wnids.txt"))
    names = _read_words(root / "words.txt")
    class_names = [names.get(wnid, wnid) for wnid in wnids]

    train_files = [
        (file, k)
        for k, wnid in enumerate(wnids)
        for file in image_files(root / "train" / wnid / "images")
    ]
    number = {wnid: k for k, wnid in enumerate(wnids)}
    annotations = root / "val" / "val_annotations.txt"
    test_files = []
    for line in _read_lines(annotations):
        file, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in number:
            raise UserError(
                f"{annotations}: {wnid!r} of {file!r} is not in wnids.txt; "
                "extract the archive again"
            )
        test_files.append((root / "val" / "images" / file, number[wnid]))
    return (
        _read_files(root / "train", train_files, class_names, config.image_size),
        _read_files(root / "val", test_files, class_names, config.image_size),
    )


def _read_class_folders(root: Path, image_size: int | None) -> LongTailedDataset:
    folders = subfolders(root)
    if not folders:
        raise UserError(f"{root} has no class folders; expected one folder of images per class")
    files = [(file, k) for k, folder in enumerate(folders) for file in image_files(folder)]
    return _read_files(root, files, [folder.name for folder in folders], image_size)


def _read_files(
    root: Path, files: list[tuple[Path, int]], class_names: list[str], image_size: int | None
) -> LongTailedDataset:
    """A dataset of (file, label) pairs found below ``root``."""
    if not files:
        raise UserError(f"{root} holds no image files; check that it was extracted in full")
    labels = np.array([label for _, label in files], dtype=np.int64)
    images = decode_images(((str(file), file) for file, _ in files), image_size)
    return named_dataset(str(root), images, labels, class_names)


def subfolders(root: Path) -> list[Path]:
    """Sorted; empty if ``root`` is not a folder."""
    return (
        sorted(folder for folder in root.iterdir() if folder.is_dir() and folder.name[0] != ".")
        if root.is_dir()
        else []
    )


def image_files(folder: Path) -> list[Path]:
    """Files with the extension of an image format, sorted."""
    known = Image.registered_extensions()
    if not folder.is_dir():
        return []
    return sorted(
        file for file in folder.iterdir() if file.suffix.lower() in known and file.name[0] != "."
    )


def _read_lines(path: Path) -> list[str]:
    return existing(path, "data.path").read_text(encoding="utf-8").splitlines()


def _read_words(path: Path) -> dict[str, str]:
    """WordNet id -> the first of its synonyms; empty without the file."""
    if not path.exists():
        return {}
    entries = (line.partition("\t") for line in _read_lines(path))
    return {wnid: synonyms.split(",")[0] for wnid, _, synonyms in entries}
