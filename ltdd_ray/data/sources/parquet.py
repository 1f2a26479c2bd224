"""Parquet files in the image layout of Hugging Face, at a local path or a URI of ``pyarrow.fs``.

Column ``image`` is a struct with the encoded ``bytes``, or the bytes alone. Column ``label`` holds
whole numbers or class names. The names of numbered classes are JSON in the schema's metadata under
``huggingface``, as the ``datasets`` library writes them. Files may number the same names in
different orders: labels are matched by name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.sources.checks import (
    TEST_NAMES,
    named_dataset,
    named_test_images,
    required_path,
)
from ltdd_ray.data.sources.decode import decode_images
from ltdd_ray.data.sources.labels import (
    clean_names,
    names_of_numbers,
    number_names,
    same_names,
    shifted,
    whole_numbers,
)
from ltdd_ray.data.sources.parquet_files import locate

# Encoded images do not compress. A file that unpacks to more than both was made to fill memory.
UNPACKED_BYTES = 64 * 2**20
UNPACKED_RATIO = 20
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class _FileLabels:
    """The labels of one file: numbers int64 (N,), or N class names."""

    file: str
    names: tuple[str, ...]
    values: np.ndarray | tuple[str, ...]

    @property
    def is_text(self) -> bool:
        return isinstance(self.values, tuple)


def load_parquet(config: DataConfig) -> tuple[LongTailedDataset, LabelledImages | None]:
    """Read a file, or a folder whose files or subfolders are called train*, test* or val*.

    val* is used only without test*. If no name decides the part, all files of ``path`` hold
    training images and all files of ``test_path`` test images.
    """
    source = locate(required_path(config), "data.path")
    train_files, test_files = source.files("train"), []
    test_source = source if config.test_path is None else locate(config.test_path, "data.test_path")
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

    notes = source.passed_over(train_files, test_files)
    read = [_read_labels(source.filesystem, train_files)]
    if test_files:
        read.append(_read_labels(test_source.filesystem, test_files))
    names, labels = _number(read)
    encoded = _encoded(source.filesystem, train_files)
    images = decode_images(encoded, config.image_size, config.background, notes)
    train = named_dataset(f"{source.name} train", images, labels[0], names, notes)
    if not test_files:
        return train, None
    notes = [] if test_source is source else test_source.passed_over(test_files)
    encoded = _encoded(test_source.filesystem, test_files)
    images = decode_images(encoded, config.image_size, config.background, notes)
    return train, named_test_images(f"{test_source.name} test", images, labels[1], names, notes)


def _read_labels(filesystem: FileSystem, files: list[str]) -> list[_FileLabels]:
    """The labels of each file; checks all columns before any image is decoded."""
    read = []
    for file in files:
        with _open(filesystem, file) as parquet:
            schema = parquet.schema_arrow
            _check_columns(file, schema)
            _refuse_unpacking(parquet, file, filesystem.get_file_info(file).size)
            column = _read_column(parquet, file, "label")
        if column.null_count:
            raise UserError(f"{file}: {column.null_count} rows have no label; fill or remove them")
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        if _is_text(column.type):
            values: np.ndarray | tuple[str, ...] = _texts(column, file)
        else:
            values = whole_numbers(file, column.to_numpy())
        read.append(_FileLabels(file, _names_in_schema(file, schema), values))
    return read


def _number(read: list[list[_FileLabels]]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """(class names, labels (N,) of each part), matched by name over all files of all parts."""
    every = [labels for part in read for labels in part]
    first = every[0]
    odd = next((k for k in every if k.is_text != first.is_text), None)
    if odd is None and not first.is_text:
        odd = next((k for k in every if bool(k.names) != bool(first.names)), None)
    if odd is not None:
        raise UserError(
            f"{first.file} and {odd.file} do not both name their classes, so their labels cannot "
            "be matched; export both in the same way"
        )
    if first.is_text:
        names = tuple(sorted({value for labels in read[0] for value in labels.values}))
        numbers = [[number_names(k.file, tuple(k.values), names) for k in part] for part in read]
    elif first.names:
        names = first.names
        numbers = [[_renumbered(k, names) for k in part] for part in read]
    else:
        train = np.concatenate([np.asarray(labels.values) for labels in read[0]])
        shift, names = names_of_numbers(first.file, train)
        numbers = [
            [np.asarray(k.values) - shift for k in read[0]],
            *(
                [shifted(k.file, np.asarray(k.values), shift, names) for k in part]
                for part in read[1:]
            ),
        ]
    return names, [np.concatenate(part) for part in numbers]


def _renumbered(labels: _FileLabels, names: tuple[str, ...]) -> np.ndarray:
    values = np.asarray(labels.values)
    outside = values[(values < 0) | (values >= len(labels.names))]
    if len(outside):
        raise UserError(
            f"{labels.file}: label {outside[0]} lies outside 0..{len(labels.names) - 1}, the "
            "classes that the file names; correct the labels or the names"
        )
    return same_names(labels.file, labels.names, names)[values]


def _refuse_unpacking(parquet: pq.ParquetFile, file: str, size: int) -> None:
    """Raise ``UserError`` for a file that fills memory, from its metadata alone."""
    metadata = parquet.metadata
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    if unpacked > max(UNPACKED_BYTES, UNPACKED_RATIO * size) or metadata.num_rows > size:
        raise UserError(
            f"{file}: {size:,} bytes unpack to {unpacked:,} bytes in {metadata.num_rows:,} rows, "
            "which no file of images does; export it again with images of their own"
        )


def _encoded(filesystem: FileSystem, files: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (file and row, encoded image); a few rows are in memory at a time."""
    for file in files:
        row = 0
        with _open(filesystem, file) as parquet:
            try:
                for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=["image"]):
                    for value in batch.column(0).to_pylist():
                        encoded = value["bytes"] if isinstance(value, dict) else value
                        if encoded is None:
                            raise UserError(
                                f"{file} row {row} has no image bytes; embed the images in the file"
                            )
                        yield f"{file} row {row}", encoded
                        row += 1
            except (OSError, pa.ArrowException) as error:
                raise _damaged(file, "image", error) from None


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
        raise _damaged(file, name, error) from None


def _texts(column: pa.ChunkedArray, file: str) -> tuple[str, ...]:
    try:
        return clean_names(column.to_pylist())
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: a class name in column 'label' is no UTF-8 ({error.object!r}); export the "
            "file again with names in UTF-8"
        ) from None


def _damaged(file: str, name: str, error: Exception) -> UserError:
    return UserError(
        f"{file}: column {name!r} is damaged ({error}); download or export the file again"
    )


def _check_columns(file: str, schema: pa.Schema) -> None:
    missing = {"image", "label"} - set(schema.names)
    if missing:
        raise UserError(
            f"{file} has columns {schema.names} but no {' and '.join(sorted(missing))}; "
            "rename its columns"
        )
    image, label = schema.field("image").type, schema.field("label").type
    inner = image
    if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0:
        inner = image.field("bytes").type
    if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise UserError(
            f"{file}: column image is {image}; expected a struct with the encoded image in `bytes` "
            "of type binary"
        )
    if pa.types.is_dictionary(label):
        label = label.value_type
    whole = pa.types.is_integer(label) or pa.types.is_floating(label) or pa.types.is_boolean(label)
    if not whole and not _is_text(label):
        raise UserError(
            f"{file}: column label is {label}; expected whole numbers 0..C-1 or class names"
        )


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _names_in_schema(file: str, schema: pa.Schema) -> tuple[str, ...]:
    """The ClassLabel names of column ``label``, or () if the file has none."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        entry: Any = json.loads(text)
        for key in ("info", "features", "label"):
            entry = (entry or {}).get(key)
        names = (entry or {}).get("names") or []
        if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
            raise ValueError("the names are no list of words")
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file}: its metadata `huggingface` does not describe a ClassLabel ({error}); export "
            "the file again, or remove the metadata"
        ) from None
    return clean_names(names)
