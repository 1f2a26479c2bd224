"""Folders of image files: one folder per class, and Tiny-ImageNet as it is distributed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.names import class_name, printable
from ltdd_ray.data.sources.checks import (
    TEST_FOLDERS,
    TRAIN_FOLDERS,
    existing,
    named_dataset,
    named_test_images,
    read_lines,
    required_path,
)
from ltdd_ray.data.sources.decode import (
    EXTENSIONS,
    FORMATS,
    decode_images,
    refuse_unreadable_heic,
)

_Kind = TypeVar("_Kind", bound=LabelledImages)


def load_imagefolder(config: DataConfig) -> tuple[LongTailedDataset, LabelledImages | None]:
    """Read ``path``/train/CLASS/* and ``path``/test/CLASS/* (or val), or else ``path``/CLASS/*.

    ``test_path``, if given, holds the folders of the test classes. Classes are numbered by sorted
    name. What is not read is told in the notes of the training images.
    """
    root = existing(required_path(config), "data.path")
    train_root, test_root = locate_parts(root)
    if config.test_path is not None:
        test_root = existing(config.test_path, "data.test_path")
    notes = passed_over(root, train_root, test_root)
    train = _read_class_folders(named_dataset, train_root, config, notes)
    if test_root is None:
        return train, None
    return train, _read_class_folders(named_test_images, test_root, config, [])


def load_unlabelled(
    path: str,
    image_size: int | None,
    image_shape: tuple[int, int, int],
    background: str = "white",
) -> np.ndarray:
    """All images below ``path``, uint8 (N, *``image_shape``).

    Grey images become RGB if ``image_shape``, that of the labelled images (K, H, W), has three
    channels. Raises ``UserError`` if there are no images, or if their shape differs otherwise.
    """
    root = existing(path, "data.unlabelled")
    files = [file for folder in sorted([root, *root.rglob("*/")]) for file in image_files(folder)]
    if not files:
        raise UserError(f"data.unlabelled: {root} holds no image files; name the folder that does")
    refuse_unreadable_heic(files)
    images = decode_images(((str(file), file) for file in files), image_size, background)
    if images.shape[2:] != image_shape[1:] or images.shape[1] > image_shape[0]:
        raise UserError(
            f"data.unlabelled: images in {root} have shape {images.shape[1:]} (channels, height, "
            f"width) but labelled ones {image_shape}; set data.image_size if the sizes differ, and "
            "convert the images to grey if only they are in colour"
        )
    return np.broadcast_to(images, (len(images), *image_shape))


def locate_parts(root: Path) -> tuple[Path, Path | None]:
    """(folder of the training classes, folder of the test classes or None)."""
    train = _part(root, TRAIN_FOLDERS)
    return (root, None) if train is None else (train, _part(root, TEST_FOLDERS))


def _part(root: Path, names: tuple[str, ...]) -> Path | None:
    """The folder of the first of ``names``, in any case, that holds folders."""
    folders = [folder for folder in subfolders(root) if subfolders(folder)]
    for name in names:
        found = [folder for folder in folders if folder.name.lower() == name]
        if len(found) > 1:
            raise UserError(
                f"{root} holds {found[0].name} and {found[1].name}, and only one can be the "
                f"{name} part; rename or remove one"
            )
        if found:
            return found[0]
    return None


def passed_over(root: Path, train: Path, test: Path | None) -> list[str]:
    """Sentences about what lies below ``root`` and is not read; empty if all of it is."""
    parts = [part for part in (train, test) if part is not None]
    notes = []
    if train != root:
        others = [f for f in subfolders(root) if not any(f.samefile(part) for part in parts)]
        if others:
            notes.append(_counted("folder(s) beside the parts are not read", others))
    by_reason: dict[str, list[Path]] = {}
    for part in parts:
        for entry in sorted(part.iterdir()):
            if not entry.is_dir():
                by_reason.setdefault("file(s) outside the class folders", []).append(entry)
            elif _is_hidden(entry):
                by_reason.setdefault("hidden folder(s)", []).append(entry)
        for folder in subfolders(part):
            read = set(image_files(folder))
            for entry in sorted(folder.iterdir()):
                if entry.is_dir():
                    inside = [file for file in entry.rglob("*") if file.is_file()]
                    reason = "file(s) in subfolders of a class"
                    by_reason.setdefault(reason, []).extend(sorted(inside))
                elif entry not in read:
                    kind = entry.suffix.lower() or "no extension"
                    by_reason.setdefault(f"file(s) with {kind}", []).append(entry)
    notes += [_counted(f"{reason} are not read", found) for reason, found in by_reason.items()]
    return [note for note in notes if note]


def _counted(what: str, found: list[Path]) -> str:
    return f"{len(found):,} {what}, for example {printable(str(found[0]))}" if found else ""


def load_tiny_imagenet(config: DataConfig) -> tuple[LongTailedDataset, LabelledImages]:
    """Read wnids.txt, train/WNID/images/*, val/images/* and val/val_annotations.txt.

    Classes are numbered by sorted WordNet id, as in the published subsets. They are named by the
    first synonym in words.txt, or by their id without that file. The public validation images are
    the test set.
    """
    root = existing(required_path(config), "data.path")
    wnids = sorted(read_lines(root / "wnids.txt", "data.path"))
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
    for line in read_lines(annotations, "data.path"):
        file, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in number:
            raise UserError(
                f"{annotations}: {wnid!r} of {file!r} is not in wnids.txt; "
                "extract the archive again"
            )
        if Path(file).name != file:
            raise UserError(f"{annotations}: {file!r} is not the name of a file; correct it")
        test_files.append((root / "val" / "images" / file, number[wnid]))
    others = [folder for folder in subfolders(root / "train") if folder.name not in number]
    unread = [
        _counted("folder(s) of train whose name is not in wnids.txt are not read", others),
        _counted(
            "file(s) of test have no labels and are not read", image_files(root / "test/images")
        ),
    ]
    notes = [note for note in unread if note]
    return (
        _read_files(named_dataset, root / "train", train_files, class_names, config, notes),
        _read_files(named_test_images, root / "val", test_files, class_names, config, []),
    )


def _read_class_folders(
    build: Callable[..., _Kind], root: Path, config: DataConfig, notes: list[str]
) -> _Kind:
    folders = subfolders(root)
    if not folders:
        raise UserError(
            f"{root} has no class folders; move the images of each class into a folder of its own "
            "there"
        )
    names = [class_name(folder.name) for folder in folders]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(
            f"{root} holds two folders whose names read {twice[0]!r} but are spelt with other "
            "characters; join them"
        )
    files = [(file, k) for k, folder in enumerate(folders) for file in image_files(folder)]
    return _read_files(build, root, files, names, config, notes)


def _read_files(
    build: Callable[..., _Kind],
    root: Path,
    files: list[tuple[Path, int]],
    class_names: list[str],
    config: DataConfig,
    notes: list[str],
) -> _Kind:
    """A dataset of (file, label) pairs found below ``root``."""
    if not files:
        raise UserError(
            f"{root} holds no image files ({', '.join(FORMATS)}); check that it was extracted "
            "in full"
        )
    refuse_unreadable_heic(file for file, _ in files)
    labels = np.array([label for _, label in files], dtype=np.int64)
    encoded = ((str(file), file) for file, _ in files)
    images = decode_images(encoded, config.image_size, config.background, notes)
    return build(str(root), images, labels, class_names, notes)


def subfolders(root: Path) -> list[Path]:
    """Sorted; empty if ``root`` is not a folder."""
    return (
        sorted(folder for folder in root.iterdir() if folder.is_dir() and not _is_hidden(folder))
        if root.is_dir()
        else []
    )


def _is_hidden(folder: Path) -> bool:
    return folder.name[0] == "." or folder.name == "__MACOSX"


def image_files(folder: Path) -> list[Path]:
    """Files with the extension of a format that is read, sorted."""
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in EXTENSIONS and file.name[0] != "." and not file.is_dir()
    )


def _read_words(path: Path) -> dict[str, str]:
    """WordNet id -> the first of its synonyms; empty without the file."""
    if not path.exists():
        return {}
    entries = (line.partition("\t") for line in read_lines(path, "data.path"))
    return {wnid: synonyms.split(",")[0] for wnid, _, synonyms in entries}
