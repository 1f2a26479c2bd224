"""Addresses of folders on object stores, such as ``s3://bucket/runs``, and copies of them here.

An address may end in options after a question mark, as pyarrow reads them
(``s3://bucket/runs?region=eu-central-1``).
"""

import hashlib
import os
from pathlib import Path
from typing import Literal

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether ``place`` is an address and not a path."""
    return "://" in str(place)


def inside(address: str, name: str) -> str:
    """The address of ``name`` in the folder at ``address``, with the same options."""
    folder, mark, options = address.partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{options}"


def shown(address: str) -> str:
    """``address`` as people see it: without user, key and options."""
    return mask(address).partition("?")[0].rstrip("/")  # a secret may hold a question mark


def cache_folder(address: str, purpose: Literal["runs", "copies"]) -> Path:
    """The folder of this user and machine for what lies at ``address``.

    ``runs`` are folders that a run works in, ``copies`` those that are only read. Both are below
    ``XDG_CACHE_HOME``, or else ``~/.cache``. The name has a hash of the address without user and
    key, so another server or bucket has another folder, and a new key has the same one. Raises
    ``UserError`` where the user has no home.
    """
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise UserError(
            f"{shown(address)}: its files need a folder on this machine, but this user has no "
            "home; set XDG_CACHE_HOME to a folder"
        ) from None
    place = f"{shown(address)}?{address.partition('?')[2]}"
    identity = hashlib.sha256(place.encode()).hexdigest()[:16]
    last = shown(address).rpartition("/")[2][:40]
    return caches / "ltdd_ray" / purpose / f"{last}-{identity}"


def make_private(folder: Path) -> None:
    """Create ``folder`` and what it lies in, for this user only.

    Raises ``UserError`` where that is not permitted.
    """
    try:
        for missing in reversed([folder, *folder.parents]):
            missing.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be created: {error.strerror or error}; set XDG_CACHE_HOME to a "
            "folder that can be written to"
        ) from error
