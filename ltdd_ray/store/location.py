"""Where a store lies: a local folder, or any other file system that ``pyarrow.fs`` knows.

Both kinds offer the same few operations. They differ in how a file appears (``drafts``), and in how
a live writer's file is told from debris. A local file is locked, and the kernel drops the lock when
the writer dies. For objects there is only age.
"""

import errno
import fcntl
import io
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import fs

from ltdd_ray.common.address import is_address, shown
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import open_regular, usable_path
from ltdd_ray.common.hints import nearest_path
from ltdd_ray.common.redact import mask
from ltdd_ray.store.drafts import LocalDraft, ObjectDraft

_EXHAUSTED = {  # of the process or the machine; the store itself is sound
    errno.EMFILE: "the store is sound; raise the limit of open files with `ulimit -n`",
    errno.ENFILE: "the store is sound; close other programs, as all of the system's files are open",
    errno.ENOMEM: (
        "the store is sound; free some memory, keep fewer trajectories at once, or raise "
        "vm.max_map_count"
    ),
}

# What the servers of object stores answer, in the words of pyarrow and of the servers themselves.
_FULL = re.compile(
    r"(?:status|code)\D{0,3}507|quota|insufficient.?storage|storage.?full|no space", re.IGNORECASE
)
_DENIED = re.compile(
    r"(?:status|code)\D{0,3}40[13]|access.?denied|access.?key|signature|forbidden", re.IGNORECASE
)


@contextmanager
def storage_errors(uri: str, action: str) -> Iterator[None]:
    """Turn an error of the operating system or an object store into a ``UserError``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = _EXHAUSTED.get(error.errno or 0) or (
            _remedy_there(error)
            if is_address(uri)
            else "check the path, its permissions and the free space"
        )
        raise UserError(f"{uri}: cannot {action}: {reason}; {remedy}") from error
    except pa.ArrowException as error:  # such as Azure's, when it finds no credentials
        # The first sentence of several lines, in which the address stands with its options.
        reason = mask(str(error).partition("\n")[0]).rstrip(".")
        raise UserError(
            f"{uri}: cannot {action}: {reason}; check the address, the credentials and the network"
        ) from error


def _remedy_there(error: OSError) -> str:
    """What to do about an error of an object store, or of this machine's disk on the way to it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk of this machine is full, so free some space on it"
    if _FULL.search(str(error)):
        return "free space there or raise its quota; the same command then goes on"
    if _DENIED.search(str(error)):
        return (
            "check the address, the credentials, and that they may list, read, write and delete "
            "there"
        )
    return "check the address, the credentials and the network"


def near_folder(uri: str) -> str:
    """A hint for a folder that does not exist; empty for an address, which may be slow to list."""
    return "" if is_address(uri) else nearest_path(uri)


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
            with self.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def open(self, name: str) -> IO[bytes]:
        try:
            return open_regular(self.path / name)
        except IsADirectoryError:
            raise UserError(f"{self.uri}/{name}: a folder, not a file; remove it") from None

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def draft(self, prefix: str) -> LocalDraft:
        return LocalDraft(self.path, prefix)

    def clock(self) -> float:
        """The date of a file written now. On a network file system that is the server's time."""
        with tempfile.TemporaryFile(dir=self.path) as probe:
            return os.fstat(probe.fileno()).st_mtime

    @contextmanager
    def unowned(self, name: str, min_age: float, clock: Callable[[], float]) -> Iterator[bool]:
        """Whether no live writer owns the file. True stays true while the block runs."""
        try:
            file = (self.path / name).open("r+b")
        except (FileNotFoundError, IsADirectoryError):
            yield False
            return
        with file:
            yield _lock_is_free(file, min_age, clock)


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
        """``length`` bytes from ``offset``; fewer if the file ends before, or is gone."""
        buffer = bytearray(length)
        with suppress(FileNotFoundError), self.open(name) as file:
            file.seek(min(offset, file.size()))
            return buffer[: file.readinto(buffer)]
        return bytearray()

    def open(self, name: str) -> pa.NativeFile:
        return self.filesystem.open_input_file(f"{self.path}/{name}")

    def remove(self, name: str) -> None:
        self.filesystem.delete_file(f"{self.path}/{name}")

    def draft(self, prefix: str) -> ObjectDraft:
        return ObjectDraft(self.filesystem, self.path)

    def clock(self) -> float:
        """The server's time, from an object written for the purpose."""
        # If it stays, its name makes it debris.
        probe = f"{self.path}/expert-0000.representation.{uuid.uuid4().hex}.tmp"
        with self.filesystem.open_output_stream(probe):
            pass
        written = self.filesystem.get_file_info(probe).mtime_ns
        self.filesystem.delete_file(probe)
        return written / 1e9

    @contextmanager
    def unowned(self, name: str, min_age: float, clock: Callable[[], float]) -> Iterator[bool]:
        """Whether the object is older than ``min_age``, so that its writer must have ended."""
        written = self.filesystem.get_file_info(f"{self.path}/{name}").mtime_ns
        yield written is not None and clock() - written / 1e9 >= min_age


Folder = LocalFolder | ObjectFolder


def open_folder(uri: str) -> Folder:
    """The folder at a path or URI. Raises ``UserError`` for a URI that pyarrow cannot open."""
    if not is_address(uri):
        return LocalFolder(uri, Path(usable_path(uri)))
    filesystem, path = open_address(uri, "trajectories")
    if isinstance(filesystem, fs.LocalFileSystem):
        return LocalFolder(path, Path(path))
    return ObjectFolder(shown(uri), filesystem, path)


def open_address(uri: str, what: str) -> tuple[fs.FileSystem, str]:
    """The file system at ``uri``, and the path in it.

    ``what`` names what is stored there. Raises ``UserError`` for a URI that pyarrow cannot open.
    """
    place = shown(uri)
    try:
        return fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError) as error:  # malformed, or not supported by this Arrow
        reason = mask(str(error).partition("\n")[0].replace(uri, place))
        raise UserError(
            f"{place}: not a place to store {what} ({reason}); give a folder, or an s3:// or "
            "gs:// address"
        ) from None


def _lock_is_free(file: io.BufferedRandom, min_age: float, clock: Callable[[], float]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return clock() - os.fstat(file.fileno()).st_mtime >= min_age
    return True
