"""Images that stay on disk, in memory-mapped Arrow files, and are read batch by batch.

N images, K channels, H height, W width; R images per file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_atomic


def write_shard(file: Path, images: np.ndarray) -> None:
    """Write uint8 (R, K, H, W) atomically, as an Arrow IPC file with one tensor column."""
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images))
    batch = pa.record_batch({"image": column})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    write_atomic(file, sink.getvalue().to_pybytes())


def open_shard(file: Path) -> np.ndarray:
    """Map the images (R, K, H, W) of a shard. Raises ``UserError`` if the file is damaged."""
    try:
        # Closing the source frees the descriptor; the mapping lives as long as the array.
        with pa.memory_map(str(file)) as source:
            return pa.ipc.open_file(source).get_batch(0).column("image").to_numpy_ndarray()
    except (OSError, pa.ArrowException, AttributeError) as error:
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

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        return [open_shard(Path(file)) for file in self.files]
