"""ImageNet-LT, or any images named by class lists: text files of lines ``relative/path label``.

Liu et al. publish such lists ("Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019,
arXiv 1904.05160).

The images are decoded and resized once into Arrow files (shards) under ``data.cache``. A run maps
these files, so the images need not fit in memory. There is one folder for each list, folder of
images, state of the files (size and time of change) and image size; its ``cache.json`` is written
last, with a hash of the pixels.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_bytes, read_text, refuse_impossible, resolved, write_json
from ltdd_ray.config import DataConfig, fingerprint
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.mapped import MappedImages, shard_notes, write_shard
from ltdd_ray.data.sources.checks import (
    existing,
    named_dataset,
    named_test_images,
    read_lines,
    required_path,
)
from ltdd_ray.data.sources.decode import Converted, decode_and_count, describe_converted
from ltdd_ray.data.sources.labels import refuse_absurd

SHARD_BYTES = 16 * 2**20
COMMIT = "cache.json"


@dataclass(frozen=True)
class ClassList:
    """A list file: ``paths`` relative to the images' folder, and ``labels`` int64 (N,)."""

    file: Path
    paths: tuple[str, ...]
    labels: np.ndarray


@dataclass(frozen=True)
class ImageShard:
    """One file of the cache, and the images decoded into it.

    ``paths`` are those of line ``first_line`` of ``list_file`` and the lines after it. All values
    are plain, so that a shard can be sent to another process.
    """

    file: str
    root: str
    list_file: str
    first_line: int
    paths: Sequence[str]
    image_size: int
    background: str = "white"

    def write(self) -> None:
        """Decode and resize the images, and convert grey ones to RGB.

        Raises ``UserError`` naming the first image that cannot be read.
        """
        lines = enumerate(self.paths, start=self.first_line)
        files = (
            (f"{Path(self.root) / path} ({self.list_file} line {line})", Path(self.root) / path)
            for line, path in lines
        )
        images, converted, _ = decode_and_count(files, self.image_size, self.background)
        write_shard(
            Path(self.file),
            np.broadcast_to(images, (len(images), 3, self.image_size, self.image_size)),
            converted,
        )


ShardWriter = Callable[[Sequence[ImageShard]], None]


def write_in_process(shards: Sequence[ImageShard]) -> None:
    """The default writer: one shard after the other, in this process."""
    for shard in shards:
        shard.write()


def load_imagenet_lt(
    config: DataConfig, write_shards: ShardWriter
) -> tuple[LongTailedDataset, LabelledImages | None]:
    """Map the images of ``train_list`` and, if given, ``test_list``; their paths start at ``path``.

    ``write_shards`` writes the shards that ``cache`` lacks. A class is named after the folder of
    its first training image. Where two classes would get one name, all are named by number.
    """
    root = existing(required_path(config), "data.path")
    if config.train_list is None or config.cache is None or config.image_size is None:
        raise UserError(
            "source imagenet_lt needs data.train_list (a file of lines `relative/path label`), "
            "data.cache (a folder) and data.image_size; set all three"
        )
    train = read_class_list(config.train_list, "data.train_list")
    names = _names_of_folders(train)
    lists = (
        [train]
        if config.test_list is None
        else [train, read_class_list(config.test_list, "data.test_list")]
    )
    cache = resolved(Path(config.cache))
    parts = []
    for listed in lists:
        images, notes = _cached(listed, root, cache, config, write_shards)
        build = named_test_images if parts else named_dataset
        parts.append(build(str(listed.file), images, listed.labels, names, notes))
    return parts[0], parts[1] if len(parts) == 2 else None


def read_class_list(path: str, key: str) -> ClassList:
    """Read the list file of ``key``. Raises ``UserError`` naming a line of another form."""
    file = existing(path, key)
    paths, labels = [], []
    for number, line in enumerate(read_lines(file, key), start=1):
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isdecimal() or len(label) > 15:
            raise UserError(
                f"{file} line {number}: {line!r} is not `relative/path label`; correct the line"
            )
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(
                f"{file} line {number}: {name!r} leads out of data.path; use a path below it"
            )
        try:
            refuse_impossible(name)
        except UserError as error:
            raise UserError(f"{file} line {number}: {error}") from None
        paths.append(name)
        labels.append(int(label))
    if not paths:
        raise UserError(f"{file} names no image; correct {key}")
    numbers = np.array(labels, dtype=np.int64)
    refuse_absurd(str(file), numbers)
    return ClassList(file, tuple(paths), numbers)


def plan_shards(
    listed: ClassList, root: Path, folder: Path, image_size: int, background: str = "white"
) -> list[ImageShard]:
    """Divide ``listed``, in order, into shards of at most SHARD_BYTES."""
    size = images_per_shard(image_size)
    return [
        ImageShard(
            str(folder / f"{at // size:05d}.arrow"),
            str(root),
            str(listed.file),
            at + 1,
            listed.paths[at : at + size],
            image_size,
            background,
        )
        for at in range(0, len(listed.paths), size)
    ]


def images_per_shard(image_size: int) -> int:
    return max(1, SHARD_BYTES // (3 * image_size**2))


def _cached(
    listed: ClassList, root: Path, cache: Path, config: DataConfig, write_shards: ShardWriter
) -> tuple[MappedImages, list[str]]:
    """The list's images, and notes on their conversion; missing ones are decoded now."""
    image_size, root = config.image_size, resolved(root)
    assert image_size is not None  # see load_imagenet_lt
    made_from = fingerprint(
        "image cache 3",
        *(str(root), list(listed.paths), [_state(root / path) for path in listed.paths]),
        *(image_size, images_per_shard(image_size), config.background),
    )
    folder = cache / made_from
    shards = plan_shards(listed, root, folder, image_size, config.background)
    if not (folder / COMMIT).exists():
        folder.mkdir(parents=True, exist_ok=True)
        missing = [shard for shard in shards if not Path(shard.file).exists()]
        if missing:
            write_shards(missing)
        write_json(
            folder / COMMIT,
            {
                "list": str(listed.file),
                "path": str(root),
                "images": len(listed.paths),
                "image_size": image_size,
                "notes": _notes(shards, config.background),
                "pixels": _hash_of([Path(shard.file) for shard in shards]),
            },
        )
    files = tuple(shard.file for shard in shards)
    pixels, notes = _read_commit(folder / COMMIT)
    images = MappedImages(
        files,
        images_per_shard(image_size),
        (3, image_size, image_size),
        np.arange(len(listed.paths)),
        pixels,
    )
    return images, notes


def _notes(shards: Sequence[ImageShard], background: str) -> list[str]:
    """What was converted in all ``shards``."""
    total: Converted = {}
    for shard in shards:
        for kind, (count, first) in shard_notes(Path(shard.file)).items():
            known, name = total.get(kind, (0, first))
            total[kind] = known + count, name
    return describe_converted(total, background)


def _state(file: Path) -> tuple[int, int] | None:
    """(bytes, time of the last change in ns); None if there is no such file."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _hash_of(files: Sequence[Path]) -> str:
    digest = sha256()
    for file in files:
        digest.update(read_bytes(file))
    return digest.hexdigest()


def _read_commit(commit: Path) -> tuple[str, list[str]]:
    """(hash of the pixels, notes)."""
    try:
        content = json.loads(read_text(commit))
        return str(content["pixels"]), [str(note) for note in content["notes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{commit} is damaged ({error}); remove its folder, and the next run fills it again"
        ) from None


def _names_of_folders(train: ClassList) -> tuple[str, ...]:
    first = dict(zip(reversed(train.labels.tolist()), reversed(train.paths)))
    numbers = range(int(train.labels.max()) + 1)
    folders = [Path(first[k]).parent.name if k in first else str(k) for k in numbers]
    return tuple(folders) if len(set(folders)) == len(folders) else tuple(map(str, numbers))
