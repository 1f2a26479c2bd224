"""Rows of data files as bytes: mapped from local files, fetched by range from object stores.

Fetched rows are kept on local disk. A row is checked against its CRC-32 when a process first maps
it, and at every fetch.
"""

import errno
import os
import tempfile
import zlib
from collections import OrderedDict
from contextlib import suppress
from threading import Lock
from typing import Literal

import numpy as np
import torch

from ltdd_ray.common.files import open_regular
from ltdd_ray.store.location import Folder, LocalFolder, ObjectFolder
from ltdd_ray.store.manifest import Column


class DamagedRowError(Exception):
    """The file is gone or ends before the row (``cut``), or bytes changed (``altered``)."""

    def __init__(self, kind: Literal["cut", "altered"]):
        super().__init__(kind)
        self.kind: Literal["cut", "altered"] = kind


class MappedRows:
    """Rows of local files. Each read is a private copy-on-write mapping, loaded when touched."""

    def __init__(self, folder: LocalFolder):
        self._folder = folder
        self._checked: set[tuple[str, int]] = set()

    def fetch(self, file: str, column: Column, length: int) -> np.ndarray:
        """``length`` bytes (uint8) of a row.

        Raises ``DamagedRowError``, and ``OSError`` where the system refuses one more mapping.
        """
        # Not mmap, which keeps a file descriptor open as long as a tensor lives. The way through
        # numpy gives the tensor a storage of the row alone, so that pickling copies only that.
        try:
            mapped = torch.from_file(
                str(self._folder.path / file),
                shared=False,
                size=column.offset + length,
                dtype=torch.uint8,
            )
        except RuntimeError:
            raise self._refusal(file, column.offset + length) from None
        values = mapped.numpy()[column.offset :]
        if (file, column.offset) not in self._checked:
            _check(values, column)
            self._checked.add((file, column.offset))
        return values

    def _refusal(self, file: str, end: int) -> Exception:
        """What a refused mapping means: torch says the same of a cut file and a full system."""
        try:
            size = (self._folder.path / file).stat().st_size
            with open_regular(self._folder.path / file):
                pass  # raises where no descriptor is left, or the file may not be read
        except FileNotFoundError:
            return DamagedRowError("cut")
        if size < end:
            return DamagedRowError("cut")
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


class CachedRows:
    """Rows of objects, one range request each. The last used are cached, up to ``limit`` bytes.

    The cache lies in unnamed, mapped files in ``tempfile``'s folder, which need no descriptor each.
    It belongs to this process, and the kernel frees it however the process ends.
    """

    def __init__(self, folder: ObjectFolder, limit: int):
        self._folder, self._limit = folder, limit
        self._kept: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def fetch(self, file: str, column: Column, length: int) -> np.ndarray:
        """``length`` bytes (uint8) of a row, the caller's own copy. Raises ``DamagedRowError``."""
        key = (file, column.offset)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key].copy()
        values = np.frombuffer(self._folder.read_range(file, column.offset, length), np.uint8)
        if len(values) < length:
            raise DamagedRowError("cut")
        _check(values, column)
        # A full disk, or no mapping left, makes the next read slower, not wrong.
        with self._lock, suppress(OSError, RuntimeError):
            self._keep(key, values)
        return values

    def _keep(self, key: tuple[str, int], values: np.ndarray) -> None:
        if values.nbytes > self._limit or key in self._kept:
            return
        while self._size + values.nbytes > self._limit:
            self._size -= self._kept.popitem(last=False)[1].nbytes
        with tempfile.NamedTemporaryFile(prefix="ltdd-ray-row-") as file:
            file.write(values.data)
            file.flush()
            self._kept[key] = torch.from_file(
                file.name, shared=False, size=values.nbytes, dtype=torch.uint8
            ).numpy()
        self._size += values.nbytes


def open_rows(folder: Folder, cache_bytes: int) -> MappedRows | CachedRows:
    """Access to the rows of a folder; ``cache_bytes`` limits the cache of fetched rows."""
    return (
        MappedRows(folder) if isinstance(folder, LocalFolder) else CachedRows(folder, cache_bytes)
    )


def _check(values: np.ndarray, column: Column) -> None:
    if zlib.crc32(values.data) != column.crc32:
        raise DamagedRowError("altered")
