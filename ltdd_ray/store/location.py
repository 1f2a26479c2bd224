"""Where a store lies: a folder of this machine, or any other file system ``pyarrow.fs`` knows.

Both kinds offer the same few operations and differ in two ways. A file appears at once and whole because it is written under
a temporary name and renamed; an object because it is invisible until its upload ends. And a live writer's file is told from
debris by a lock, which the kernel drops when the writer dies; for objects there is only age.
"""

import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from ltdd_ray.errors import UserError


@contextmanager
def storage_errors(uri: str, action: str) -> Iterator[None]:
    """Say an error of the operating system or of an object store in one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{uri}: cannot {action}: {reason}; check the path, its permissions and the free space") from error


class DraftFile(io.BufferedWriter):
    """A file being written that knows the SHA-256 of what was meant to be written, whatever the disk made of it."""

    def __init__(self, raw: io.RawIOBase):
        super().__init__(raw)
        self._digest = hashlib.sha256()

    def write(self, data) -> int:
        self._digest.update(data)
        return super().write(data)

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
            with suppress(OSError):
                self._filesystem.delete_file(target)
            raise

    def close(self) -> None:
        with suppress(OSError):
            self.file.close()


class LocalFolder:
    def __init__(self, uri: str, path: Path):
        self.uri, self.path = uri, path

    def exists(self) -> bool:
        return self.path.is_dir()

    def create(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path, os.W_OK):
            raise PermissionError("not writable")

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.path.iterdir()) if self.exists() else []

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def open(self, name: str) -> io.BufferedReader:
        return (self.path / name).open("rb")

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def draft(self, prefix: str) -> LocalDraft:
        return LocalDraft(self.path, prefix)

    @contextmanager
    def unowned(self, name: str, min_age: float) -> Iterator[bool]:
        """Whether no live writer owns the file; what is true stays true while the block runs."""
        try:
            file = (self.path / name).open("r+b")
        except FileNotFoundError:
            yield False
            return
        with file:
            yield _lock_is_free(file, min_age)


class ObjectFolder:
    def __init__(self, uri: str, filesystem: fs.FileSystem, path: str):
        self.uri, self.filesystem, self.path = uri, filesystem, path.rstrip("/")

    def exists(self) -> bool:
        return self.filesystem.get_file_info(self.path).type == fs.FileType.Directory

    def create(self) -> None:
        self.filesystem.create_dir(self.path, recursive=True)

    def names(self) -> list[str]:
        listed = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in listed if info.is_file)

    def size(self, name: str) -> int | None:
        return self.filesystem.get_file_info(f"{self.path}/{name}").size

    def read(self, name: str) -> bytes | None:
        try:
            with self.open(name) as file:
                return file.readall()
        except FileNotFoundError:
            return None

    def read_range(self, name: str, offset: int, length: int) -> bytearray:
        """``length`` bytes from ``offset``, fetched without the rest of the file; fewer where it ends before."""
        buffer = bytearray(length)
        with self.open(name) as file:
            file.seek(offset)
            return buffer[: file.readinto(buffer)]

    def open(self, name: str) -> pa.NativeFile:
        return self.filesystem.open_input_file(f"{self.path}/{name}")

    def remove(self, name: str) -> None:
        self.filesystem.delete_file(f"{self.path}/{name}")

    def draft(self, prefix: str) -> ObjectDraft:
        return ObjectDraft(self.filesystem, self.path)

    @contextmanager
    def unowned(self, name: str, min_age: float) -> Iterator[bool]:
        """Whether the object is so old that its writer must have ended."""
        written = self.filesystem.get_file_info(f"{self.path}/{name}").mtime_ns
        yield written is not None and time.time() - written / 1e9 >= min_age


Folder = LocalFolder | ObjectFolder
Draft = LocalDraft | ObjectDraft


def open_folder(uri: str) -> Folder:
    """A plain path or any URI ``pyarrow.fs`` understands. Raises ``UserError`` for one it does not."""
    if "://" not in uri:
        return LocalFolder(uri, Path(uri).expanduser())
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(
            f"{uri}: not a place to store trajectories ({error}); give a folder, or an s3:// or gs:// address"
        ) from None
    return LocalFolder(uri, Path(path)) if isinstance(filesystem, fs.LocalFileSystem) else ObjectFolder(uri, filesystem, path)


def _create_locked(folder: Path, prefix: str) -> tuple[Path | None, io.FileIO]:
    path = folder / f"{prefix}.{uuid.uuid4().hex}.tmp"
    raw = io.FileIO(path, "xb+")
    with suppress(OSError):  # a file system without locks: garbage collection falls back to age
        fcntl.flock(raw, fcntl.LOCK_EX)
    if os.fstat(raw.fileno()).st_nlink:
        return path, raw
    raw.close()  # collected as debris in the moment before the lock
    return _create_locked(folder, prefix)


def _lock_is_free(file: io.BufferedRandom, min_age: float) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(file.fileno()).st_mtime >= min_age
    return True
