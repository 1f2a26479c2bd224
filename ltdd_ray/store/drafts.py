"""Drafts: files that are being written for a store. Each appears whole, or not at all.

A local file is written under a temporary name and renamed. An object is invisible until its upload
ends.
"""

import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyarrow import fs

Buffer = Any  # any object with the buffer protocol; Python 3.12 names that type
_PORTION = 1_000_000  # bytes that are hashed, and handed to the disk, at once
_BACKLOG = 16  # portions whose hash may be outstanding


class DraftFile(io.BufferedWriter):
    """A file that hashes what is written to it, so that later damage on disk can be found.

    Hashing is slower than a fast disk, so it runs in a thread. Buffers handed to ``write`` must
    therefore not change until the file is closed.
    """

    def __init__(self, raw: io.RawIOBase):
        super().__init__(raw)
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._hashing: deque[Future] = deque()
        self._portion: list[Buffer] = []
        self._size = self._sent = 0

    def write(self, data: Buffer) -> int:
        written = super().write(data)
        self._portion.append(data)
        self._size += written
        if self._size - self._sent >= _PORTION:
            self._hand_over()
            if len(self._hashing) > _BACKLOG:
                self._hashing.popleft().result()
        return written

    def flush(self) -> None:
        super().flush()
        self._hand_over()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._thread.shutdown()

    @property
    def sha256(self) -> str:
        """SHA-256 of all bytes written before the last ``flush``, in hexadecimal."""
        while self._hashing:
            self._hashing.popleft().result()
        return self._digest.hexdigest()

    def _hand_over(self) -> None:
        if self._size == self._sent:
            return
        self._hashing.append(self._thread.submit(self._hash, self._portion))
        _start_writing(self.fileno(), self._sent, self._size - self._sent)
        self._portion, self._sent = [], self._size

    def _hash(self, portion: list[Buffer]) -> None:
        for piece in portion:
            self._digest.update(piece)


def _start_writing(descriptor: int, start: int, length: int) -> None:
    """Advise Linux to write these bytes now, so that the fsync at the end has less to wait for."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


class LocalDraft:
    """A locked temporary file. It becomes a file of the folder when published, or disappears.

    The lock stays with the file through the rename and is held until ``close``.
    """

    def __init__(self, folder: Path, prefix: str):
        self._folder = folder
        self._path, raw = _create_locked(folder, prefix)
        self.file = DraftFile(raw)

    def publish(self, name: str) -> None:
        assert self._path is not None
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self._path, self._folder / name)  # noqa: PTH105 (the commit; tests replace it)
        self._path = None
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        with suppress(OSError):  # an unpublished draft needs no flush
            self.file.close()


class ObjectDraft:
    """An unnamed local file that is uploaded when published.

    A failing writer therefore leaves no partial object.
    """

    def __init__(self, filesystem: fs.FileSystem, folder: str):
        self._filesystem, self._folder = filesystem, folder
        self._raw = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed with the draft)
        self.file = DraftFile(self._raw)

    def publish(self, name: str) -> None:
        self.file.flush()
        self._raw.seek(0)
        target = f"{self._folder}/{name}"
        try:
            with self._filesystem.open_output_stream(target) as stream:
                shutil.copyfileobj(self._raw, stream, 8 << 20)
        except BaseException:
            # Leaving the block ended the upload, so a part of the data may have become an object. A
            # manifest is uploaded in one piece; one that exists now is another writer's.
            if name.endswith(".arrow"):
                with suppress(OSError):
                    self._filesystem.delete_file(target)
            raise

    def close(self) -> None:
        with suppress(OSError):
            self.file.close()


Draft = LocalDraft | ObjectDraft


def _create_locked(folder: Path, prefix: str) -> tuple[Path | None, io.FileIO]:
    path = folder / f"{prefix}.{uuid.uuid4().hex}.tmp"
    raw = io.FileIO(path, "xb+")
    with suppress(OSError):  # no locks on this file system: garbage collection goes by age
        fcntl.flock(raw, fcntl.LOCK_EX)
    if os.fstat(raw.fileno()).st_nlink:
        return path, raw
    raw.close()  # removed as debris just before it was locked
    return _create_locked(folder, prefix)
