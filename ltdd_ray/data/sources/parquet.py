"""Parquet files in the image layout of Hugging Face, at a local path or a URI of ``pyarrow.fs``.

Column ``image`` is a struct with the encoded ``bytes``, column ``label`` an integer. Class names
are JSON in the schema's metadata under ``huggingface``, as the ``datasets`` library writes them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.sources.checks import TEST_NAMES, named_dataset, not_there, required_path
from ltdd_ray.data.sources.decode import decode_images


@dataclass(frozen=True)
class _Location:
    """The parquet files at one place, grouped by part.

    A name that starts with "train", "test" or "val" decides the part; other files are under "".
    """

    name: str
    filesystem: FileSystem
    parts: dict[str, list[str]]

    @property
    def is_one_part(self) -> bool:
        """Whether no name decides a part; all files then belong to one part."""
        return set(self.parts) == {""}

    def files(self, *parts: str) -> list[str]:
        """The files of the first of ``parts`` that exists."""
        if self.is_one_part:
            return self.parts[""]
        return next((self.parts[part] for part in parts if part in self.parts), [])


def load_parquet(config: DataConfig) -> tuple[LongTailedDataset, LongTailedDataset | None]:
    """Read a file, or a folder whose files or subfolders are called train*, test* or val*.

    val* is used only without test*. If no name decides the part, all files of ``path`` hold
    training images and all files of ``test_path`` test images.
    """
    source = _locate(required_path(config), "data.path")
    train_files, test_files = source.files("train"), []
    test_source = (
        source if config.test_path is None else _locate(config.test_path, "data.test_path")
    )
    if test_source is not source or not source.is_one_part:
        test_files = test_source.files(*TEST_NAMES)
    if not train_files:
        raise UserError(
            f"data.path {source.name}: no parquet file is called train*; rename the training files"
        )
    if test_source is not source and not test_files:
        raise UserError(
            f"data.test_path {test_source.name}: no parquet file is called test* or val*; "
            "rename the test files"
        )

    train_names, train_labels = _read_labels(source.filesystem, train_files)
    test_names, test_labels = (
        _read_labels(test_source.filesystem, test_files) if test_files else ((), None)
    )
    numbers = tuple(str(k) for k in range(int(train_labels.max(initial=0)) + 1))
    train_names = train_names or test_names or numbers
    images = decode_images(_encoded(source.filesystem, train_files), config.image_size)
    train = named_dataset(f"{source.name} train", images, train_labels, train_names)
    if test_labels is None:
        return train, None
    images = decode_images(_encoded(test_source.filesystem, test_files), config.image_size)
    return train, named_dataset(
        f"{test_source.name} test", images, test_labels, test_names or train_names
    )


def _locate(path: str, key: str) -> _Location:
    try:
        if "://" in path:
            filesystem, root = FileSystem.from_uri(path)
        else:
            filesystem, root = LocalFileSystem(), Path(path).expanduser().absolute().as_posix()
        info = filesystem.get_file_info(root)
        inside = (
            filesystem.get_file_info(FileSelector(root, recursive=True))
            if info.type == FileType.Directory
            else []
        )
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{key} {path} cannot be reached ({error}); check the address and the credentials"
        ) from None
    if info.type == FileType.NotFound:
        raise not_there(key, path)
    if info.type == FileType.File:
        return _Location(path, filesystem, {"": [root]})
    parts: dict[str, list[str]] = {}
    for file in sorted(entry.path for entry in inside if entry.path.endswith(".parquet")):
        parts.setdefault(_part_of(PurePosixPath(file).relative_to(root)), []).append(file)
    if not parts:
        raise UserError(f"{key}: {path} holds no .parquet files; correct the path")
    return _Location(path, filesystem, parts)


def _part_of(file: PurePosixPath) -> str:
    return next(
        (part for step in file.parts for part in ("train", *TEST_NAMES) if step.startswith(part)),
        "",
    )


def _read_labels(filesystem: FileSystem, files: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """(class names or (), labels int64 (N,)); checks all columns before any image is decoded."""
    class_names, labels = (), []
    for file in files:
        with _open(filesystem, file) as parquet:
            schema = parquet.schema_arrow
            _check_columns(file, schema)
            column = _read_column(parquet, file, "label")
        if column.null_count:
            raise UserError(f"{file}: {column.null_count} rows have no label; fill or remove them")
        labels.append(column.to_numpy().astype(np.int64))
        class_names = class_names or _names_in_schema(schema)
    return class_names, np.concatenate(labels)


def _encoded(filesystem: FileSystem, files: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (file and row, encoded image); one file is in memory at a time."""
    for file in files:
        with _open(filesystem, file) as parquet:
            rows = _read_column(parquet, file, "image").to_pylist()
        for row, value in enumerate(rows):
            if value is None or value["bytes"] is None:
                raise UserError(
                    f"{file} row {row} has no image bytes; embed the images in the file"
                )
            yield f"{file} row {row}", value["bytes"]


def _open(filesystem: FileSystem, file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, filesystem=filesystem)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{file} is not a readable parquet file ({error}); download or export it again"
        ) from None


def _read_column(parquet: pq.ParquetFile, file: str, name: str) -> pa.ChunkedArray:
    try:
        return parquet.read(columns=[name])[name]
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{file}: column {name!r} is damaged ({error}); download or export the file again"
        ) from None


def _check_columns(file: str, schema: pa.Schema) -> None:
    missing = {"image", "label"} - set(schema.names)
    if missing:
        raise UserError(
            f"{file} has columns {schema.names} but no {' and '.join(sorted(missing))}; "
            "rename its columns"
        )
    image, label = schema.field("image").type, schema.field("label").type
    if not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
        raise UserError(
            f"{file}: column image is {image}; expected a struct with the encoded image in `bytes`"
        )
    if not pa.types.is_integer(label):
        raise UserError(f"{file}: column label is {label}; expected whole numbers 0..C-1")


def _names_in_schema(schema: pa.Schema) -> tuple[str, ...]:
    """The ClassLabel names of column ``label``, or () if the file has none."""
    entry = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = entry.get("info", {}).get("features", {}).get("label", {})
    return tuple(feature.get("names") or ())
