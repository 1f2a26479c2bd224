"""Files on their way into a store. Each appears at once and whole, or not at all.

A local file is written under a temporary name and renamed; an object is invisible until its upload ends.
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

Buffer = Any  # anything with the buffer protocol; typing has a name for it from Python 3.12 on
_PORTION = 1_000_000  # bytes that are hashed and sent on their way together
_BACKLOG = 16  # portions whose hash may be outstanding


class DraftFile(io.BufferedWriter):
    """A file being written that knows the SHA-256 of what was meant to be written, whatever the disk made of it.

    Hashing takes longer than a fast disk takes to write, so it lags behind in a thread: what is handed to ``write`` must not
    change until the file is closed.
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
        """Of all that was written before the last ``flush``, in hexadecimal."""
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
    """Have the kernel write now what it would otherwise hold back until the fsync that everything waits for. Advice to Linux."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


class LocalDraft:
    """A locked temporary that becomes a file of the folder when published and disappears otherwise.

    The lock follows the file through the rename and is held until ``close``.
    """

    def __init__(self, folder: Path, prefix: str):
        self._folder = folder
        self._path, raw = _create_locked(folder, prefix)
        self.file = DraftFile(raw)

    def publish(self, name: str) -> None:
        assert self._path is not None
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self._path, self._folder / name)  # noqa: PTH105 (the step that commits, spelled as in the specification)
        self._path = None
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        with suppress(OSError):  # bytes that an unpublished draft could not flush are not missed
            self.file.close()


class ObjectDraft:
    """An unnamed local file that is uploaded when published, so that a failing writer leaves no partial object."""

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
            if name.endswith(
                ".arrow"
            ):  # leaving the block ends the upload; a manifest goes out in one piece and may be a rival's
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
    with suppress(OSError):  # a file system without locks: garbage collection falls back to age
        fcntl.flock(raw, fcntl.LOCK_EX)
    if os.fstat(raw.fileno()).st_nlink:
        return path, raw
    raw.close()  # collected as debris in the moment before the lock
    return _create_locked(folder, prefix)
