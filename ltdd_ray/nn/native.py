"""Compiles and loads the C kernels beside this file, once per machine.

The library lands in the user's cache under a name that tells its source, its flags and this processor, so a changed source or
another kind of machine behind a shared home directory compiles its own.
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

SOURCE = Path(__file__).with_name("fused.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
log = logging.getLogger(__name__)


@cache
def load_kernels(real: str) -> ctypes.CDLL | None:
    """The kernels for ``real`` ("float" or "double"), or None where no C compiler builds them, which is logged once."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        log.warning("no C compiler found: networks fall back to slower torch operations; install gcc or clang")
        return None
    try:
        return ctypes.CDLL(str(_built(compiler, real)))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip().splitlines()[-1:] if isinstance(error, subprocess.CalledProcessError) else error
        log.warning("%s cannot build %s (%s): networks fall back to slower torch operations", compiler, SOURCE.name, reason)
        return None


def _built(compiler: str, real: str) -> Path:
    command = [*compiler.split(), *FLAGS, *(["-DDOUBLE"] if real == "double" else []), str(SOURCE)]
    identity = hashlib.sha256(" ".join(command).encode() + SOURCE.read_bytes() + _processor()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltdd_ray"
    library = folder / f"fused-{identity}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:  # two processes may build at once; the last rename wins
            built = Path(temporary) / library.name
            subprocess.run([*command, "-o", str(built), "-lm"], check=True, capture_output=True, text=True)
            built.replace(library)
    return library


def _processor() -> bytes:
    """What tells kinds of processors apart, as ``-march=native`` sees them."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        return b"".join(sorted({line for line in lines if line.startswith((b"flags", b"Features", b"model name"))}))
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
