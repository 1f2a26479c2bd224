"""Images that stay on disk, in memory-mapped Arrow files, and are read batch by batch.

N images, K channels, H height, W width; R images per file.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import open_regular, write_atomic

DIGEST_BYTES = 16


def write_shard(file: Path, images: np.ndarray, notes: dict[str, Any] | None = None) -> None:
    """Write uint8 (R, K, H, W) atomically, as an Arrow IPC file.

    It has a tensor column ``image`` and a column ``digest``, the :func:`image_digests`. ``notes``,
    plain values, go to the metadata.
    """
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images))
    digests = pa.array(image_digests(images), pa.binary(DIGEST_BYTES))
    batch = pa.record_batch({"image": column, "digest": digests})
    batch = batch.replace_schema_metadata({"notes": json.dumps(notes or {})})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    write_atomic(file, sink.getvalue().to_pybytes())


def image_digests(images: np.ndarray) -> list[bytes]:
    """A hash of each of the images (N, K, H, W), equal for equal pixels."""
    return [sha256(image.tobytes()).digest()[:DIGEST_BYTES] for image in images]


def open_shard(file: Path) -> np.ndarray:
    """Map the images (R, K, H, W) of a shard. Raises ``UserError`` if the file is damaged."""
    with _read(file) as batch:
        return batch.column("image").to_numpy_ndarray()


def shard_notes(file: Path) -> dict[str, Any]:
    """The ``notes`` of a shard. Raises ``UserError`` if the file is damaged."""
    with _read(file) as batch:
        return json.loads(batch.schema.metadata[b"notes"])


@contextmanager
def _read(file: Path) -> Iterator[pa.RecordBatch]:
    try:
        open_regular(file).close()  # mapping a pipe would wait for its writer
        # Closing the source frees the descriptor; the mapping lives as long as the array.
        with pa.memory_map(str(file)) as source:
            yield pa.ipc.open_file(source).get_batch(0)
    except (OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} is not a readable image cache ({error}); "
            "remove its folder, and the next run fills it again"
        ) from None


@dataclass(frozen=True, eq=False)
class MappedImages:
    """uint8 (N, K, H, W) as rows of shard files.

    Pickling it sends the names of the files and the row numbers, not the pixels.

    Attributes:
        files: absolute paths of the shards, which every process must be able to read.
        per_file: R; the last file may hold fewer.
        image_shape: (K, H, W).
        rows: int64 (N,), the row of each image, counted over all files.
        identity: a hash that is equal only for files with equal images.
    """

    files: tuple[str, ...]
    per_file: int
    image_shape: tuple[int, int, int]
    rows: np.ndarray
    identity: str

    dtype, ndim = np.dtype(np.uint8), 4

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | np.ndarray | Sequence[int]) -> np.ndarray:
        """The images at ``index``, copied into memory: uint8 (B, K, H, W)."""
        rows = self.rows[index]
        images = np.empty((len(rows), *self.image_shape), np.uint8)
        numbers = rows // self.per_file
        for number in np.unique(numbers):
            here = numbers == number
            images[here] = self._shards[number][rows[here] % self.per_file]
        return images

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_shards"}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), *self.image_shape

    def take(self, indices: np.ndarray) -> "MappedImages":
        """The images at ``indices`` (int (M,)), in that order; they stay on disk."""
        return replace(self, rows=self.rows[indices])

    def digests(self) -> list[bytes]:
        """The :func:`image_digests`, without reading pixels."""
        known = []
        for file in self.files:
            with _read(Path(file)) as batch:
                known += batch.column("digest").to_pylist()
        return [known[row] for row in self.rows]

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        return [open_shard(Path(file)) for file in self.files]
