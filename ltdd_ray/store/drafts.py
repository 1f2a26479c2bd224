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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pyarrow import fs

_WORTH_A_THREAD = 65536  # bytes


class DraftFile(io.BufferedWriter):
    """A file being written that knows the SHA-256 of what was meant to be written, whatever the disk made of it."""

    def __init__(self, raw: io.RawIOBase):
        super().__init__(raw)
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)

    def write(self, data) -> int:
        if memoryview(data).nbytes < _WORTH_A_THREAD:
            self._digest.update(data)
            return super().write(data)
        digested = self._thread.submit(self._digest.update, data)  # beside the write: hashing takes about as long as the disk
        try:
            return super().write(data)
        finally:
            digested.result()

    def close(self) -> None:
        self._thread.shutdown()
        super().close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


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
            if name.endswith(".arrow"):  # leaving the block ends the upload; a manifest goes out in one piece and may be a rival's
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
