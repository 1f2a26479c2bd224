"""Files and folders that are either whole or absent.

They are written under a temporary name, flushed to disk and renamed.
"""

import errno
import fcntl
import io
import json
import os
import shutil
import socket
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ltdd_ray.common.address import is_address
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, on Linux and most file systems
LOCK = ".lock"  # in a locked folder; it names the process that holds it


def usable_path(path: str) -> str:
    """``path`` with a leading ``~`` or ``~user`` replaced by that home folder.

    Addresses (``s3://...``) stay as they are. Raises ``UserError`` for an unknown user, and as
    :func:`refuse_impossible` does.
    """
    refuse_impossible(path)
    if is_address(path) or not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise UserError(f"{path!r} starts with ~ but names no user; write the path out") from None


def refuse_impossible(path: str) -> None:
    """Raise ``UserError`` for what no system takes as a path: a NUL in it, too many characters."""
    if "\0" in path:
        raise UserError(f"{path!r} holds a NUL, which no path can; remove it")
    if is_address(path):
        return
    longest = max(len(part.encode(errors="surrogatepass")) for part in path.split("/"))
    if longest > LONGEST_NAME or len(path.encode(errors="surrogatepass")) > LONGEST_PATH:
        raise UserError(
            f"{path[:60]!r}... is too long for a path ({len(path):,} characters); "
            "choose a shorter one"
        )


def resolved(path: Path) -> Path:
    """``path`` absolute and without links. Raises ``UserError`` for links that form a circle."""
    try:
        return path.resolve()
    except RuntimeError:
        raise UserError(f"{path}: a link that leads back to itself; remove the link") from None


def open_regular(path: Path) -> IO[bytes]:
    """The file at ``path`` to read.

    Raises ``UserError`` for a pipe, a socket or a device: reading one may never end. A pipe without
    a writer would even keep a plain ``open`` waiting.
    """
    file = _regular(path, os.O_RDONLY)
    return os.fdopen(file, "rb")


def read_bytes(path: Path) -> bytes:
    """The content of a file, for whose errors see :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """The text of a file, for whose errors see :func:`open_regular`; line ends become ``\\n``."""
    with open_regular(path) as file, io.TextIOWrapper(file, encoding, errors) as text:
        return text.read()


def append_text(path: Path) -> IO[str]:
    """The file at ``path``, created if missing, to write at its end. Errors as in reading."""
    return os.fdopen(_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a")


def _refuse_special(path: Path) -> None:
    with suppress(OSError):
        kind = path.lstat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)):
            raise _special(path)


def _special(path: Path) -> UserError:
    return UserError(f"{path}: a pipe, socket or device, not a file; remove it or name another")


def _regular(path: Path, flags: int) -> int:
    """A descriptor of a regular file."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe to write that nobody reads, or a socket
            raise _special(path) from None
        raise
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise _special(path)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content``. A reader sees the old file or the new one, never a part.

    The same holds after a crash at any moment. Several processes may write one path at a time; the
    last rename wins. A link at ``path`` is replaced, and its target stays as it is. Raises
    ``UserError`` where ``path`` is a pipe, a socket or a device, which a rename would destroy.
    """
    _refuse_special(path)
    temporary = _temporary(path)
    try:
        with create_file(temporary) as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_file(path: Path) -> IO[bytes]:
    """A new file to write. Raises ``FileExistsError`` where anything has the name, a link too."""
    return path.open("xb")  # O_CREAT | O_EXCL, which follows no link


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill within the block. It gets the name ``path`` when the block ends.

    A block that raises leaves nothing. Raises ``OSError`` if ``path`` already holds files.
    """
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for written in temporary.rglob("*"):
            if written.is_file():
                with written.open("rb") as file:
                    os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON through :func:`write_atomic`."""
    write_atomic(path, json.dumps(value, indent=2) + "\n")


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of ``folder`` within the block; the kernel releases it however that ends.

    Raises ``UserError`` that names process, host and command of a holder. ``what`` names the
    folder's user in it. File systems without locks go without.
    """
    file = os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = " ".join(file.read(500).split()) or "another process"
            raise UserError(
                f"{folder}: {what} is in use by {holder}; wait until it ends, or choose another "
                "name with --set name=..."
            ) from None
        except OSError:
            yield
            return
        file.truncate(0)
        command = mask(" ".join(sys.argv))[:200]
        file.write(f"process {os.getpid()} on {socket.gethostname()} ({command})\n")
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that nobody else uses, short enough for any name of a file."""
    return path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.tmp")
