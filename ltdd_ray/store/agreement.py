"""Whether a data file holds what its manifest says: schema, epochs, and the bytes of every row."""

import json
import zlib
from typing import Any

import pyarrow as pa

from ltdd_ray.store.location import Folder
from ltdd_ray.store.manifest import FORMAT, FORMAT_VERSION, Manifest, TrajectoryHeader
from ltdd_ray.store.terms import ITEM_BYTES, METRICS


def arrow_schema(header: TrajectoryHeader) -> pa.Schema:
    """Columns of a trajectory's data file; the header is its metadata, every value as JSON."""
    element = pa.field("item", pa.type_for_alias(header.dtype), nullable=False)
    parameters = [
        pa.field(name, pa.list_(element, size), nullable=False)
        for name, size in header.columns().items()
    ]
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, **header.to_json()}
    return pa.schema(
        [
            pa.field("epoch", pa.int32(), nullable=False),
            *parameters,
            *(pa.field(name, pa.float64()) for name in METRICS),
        ],
        metadata={key: json.dumps(value) for key, value in metadata.items()},
    )


def disagreement(folder: Folder, manifest: Manifest) -> str | None:
    """How the manifest differs from its data file, in words; None if both agree.

    The data file must be whole, as its SHA-256 tells. Every row is read.
    """
    try:
        with folder.open(manifest.file) as file:
            return _schema_difference(file, manifest) or _row_difference(file, manifest)
    except (pa.ArrowException, ValueError, KeyError, TypeError):
        return "the data file is not of this format"


def _schema_difference(file: Any, manifest: Manifest) -> str | None:
    with pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=[0])) as reader:
        found, wanted = reader.schema, arrow_schema(manifest.header)
        for key, value in (wanted.metadata or {}).items():
            if json.loads(found.metadata[key]) != json.loads(value):
                return f"the data file has another {key.decode()}"
        epochs = [
            reader.get_batch(k).column("epoch").to_pylist()
            for k in range(reader.num_record_batches)
        ]
    if epochs != [[epoch] for epoch in manifest.epochs]:
        return "the data file has other epochs"
    return None


def _row_difference(file: Any, manifest: Manifest) -> str | None:
    width = ITEM_BYTES[manifest.header.dtype]
    for row in manifest.rows:
        for name, size in manifest.header.columns().items():
            column = row.columns[name]
            file.seek(column.offset)
            if zlib.crc32(file.read(size * width)) != column.crc32:
                return f"the {name} of epoch {row.epoch} is not at byte {column.offset}"
    return None
