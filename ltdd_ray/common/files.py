"""Files and folders that are either whole or absent.

They are written under a temporary name, flushed to disk and renamed.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content``. A reader sees the old file or the new one, never a part.

    The same holds after a crash at any moment. Only one process may write a path at a time; the
    next one overwrites the temporary file of a killed one.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill within the block. It gets the name ``path`` when the block ends.

    A block that raises leaves nothing. Raises ``OSError`` if ``path`` already holds files.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
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
