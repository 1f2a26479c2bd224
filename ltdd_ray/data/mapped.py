"""Images that stay on disk: Arrow files, memory-mapped, read batch by batch.

N images, K channels, H height, W width; R images a file.
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
    """Write uint8 (R, K, H, W) as one Arrow IPC file of one tensor column; it appears whole or not at all."""
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images))
    batch = pa.record_batch({"image": column})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    write_atomic(file, sink.getvalue().to_pybytes())


def open_shard(file: Path) -> np.ndarray:
    """The images (R, K, H, W) of :func:`write_shard`, without reading them. Raises ``UserError`` where the file is damaged."""
    try:
        with pa.memory_map(
            str(file)
        ) as source:  # closing it gives the descriptor back; the mapping lives as long as the array
            return pa.ipc.open_file(source).get_batch(0).column("image").to_numpy_ndarray()
    except (OSError, pa.ArrowException, AttributeError) as error:
        raise UserError(
            f"{file} is not a readable image cache ({error}); remove its folder, the next run fills it again"
        ) from None


@dataclass(frozen=True, eq=False)
class MappedImages:
    """uint8 (N, K, H, W) as rows of shard files; what travels to another process is the files' names and the row numbers.

    Attributes:
        files: absolute paths of the shards, to be readable in every process.
        per_file: R; the last file may hold fewer.
        image_shape: (K, H, W).
        rows: int64 (N,), where each image lies, counted over all files.
        identity: equal exactly for equal images in all rows of the files.
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
        """The images at ``indices`` (int (M,)), in that order, still on disk."""
        return replace(self, rows=self.rows[indices])

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        return [open_shard(Path(file)) for file in self.files]
