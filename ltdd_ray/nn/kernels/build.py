"""Compiles and loads the C kernels beside this file, once per machine.

The library goes to the user's cache. Its name is a hash of source, flags and processor, so that a
changed source, or another kind of machine with the same home directory, gets its own. A file beside
it holds its SHA-256: a cut library would end the process with SIGBUS, so it is built anew.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_bytes, read_text, write_atomic

SOURCES = [Path(__file__).with_name(name) for name in ("first.c", "fused.c", "winograd.c")]
HEADERS = [Path(__file__).with_name(name) for name in ("block.h", "scratch.h", "vector.h")]
FLAGS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-shared",
    "-fPIC",
)
log = logging.getLogger(__name__)
_REALS = {torch.float32: "float", torch.float64: "double"}


def kernels_for(tensor: Tensor) -> ctypes.CDLL | None:
    """The kernels for tensors of this device and dtype, or None where there are none."""
    usable = tensor.device.type == "cpu" and tensor.dtype in _REALS
    return load_kernels(_REALS[tensor.dtype]) if usable else None


@cache
def load_kernels(real: str) -> ctypes.CDLL | None:
    """The kernels for ``real`` ("float" or "double"); None, logged once, if they do not build."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        log.warning(
            "no C compiler found: networks fall back to slower torch operations; "
            "install gcc or clang"
        )
        return None
    try:
        return ctypes.CDLL(str(_built(compiler, real)))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        reason = (
            error.stderr.strip().splitlines()[-1:]
            if isinstance(error, subprocess.CalledProcessError)
            else error
        )
        log.warning(
            "%s cannot build the C kernels (%s): networks fall back to slower torch operations",
            compiler,
            reason,
        )
        return None


def _built(compiler: str, real: str) -> Path:
    command = [
        *compiler.split(),
        *FLAGS,
        *(["-DDOUBLE"] if real == "double" else []),
        *map(str, SOURCES),
    ]
    parts = [
        " ".join(command).encode(),
        *(file.read_bytes() for file in [*SOURCES, *HEADERS]),
        _processor(),
    ]
    identity = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    # RuntimeError: this user has no home directory.
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltdd_ray"
    library = folder / f"kernels-{identity}.so"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_shared(folder)
    if not _is_whole(library):
        # Two processes may build at once; the last rename wins.
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            built = Path(temporary) / library.name
            subprocess.run(
                [*command, "-o", str(built), "-lm"], check=True, capture_output=True, text=True
            )
            with built.open("rb") as file:
                os.fsync(file.fileno())
            digest = _sha256(built)
            built.replace(library)
            write_atomic(library.with_suffix(".sha256"), digest)
    return library


def _refuse_shared(folder: Path) -> None:
    """Raise ``PermissionError`` where another user could put a library of theirs."""
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
        raise PermissionError(
            f"{folder} belongs to or is writable by other users; run `chmod 700 {folder}`, or set "
            "XDG_CACHE_HOME to a folder of your own"
        )


def _is_whole(library: Path) -> bool:
    try:
        return read_text(library.with_suffix(".sha256")) == _sha256(library)
    except (OSError, UnicodeDecodeError, UserError):
        return False


def _sha256(file: Path) -> str:
    return hashlib.sha256(read_bytes(file)).hexdigest()


def _processor() -> bytes:
    """Equal for processors that ``-march=native`` compiles the same code for."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        kept = {line for line in lines if line.startswith((b"flags", b"Features", b"model name"))}
        return b"".join(sorted(kept))
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
