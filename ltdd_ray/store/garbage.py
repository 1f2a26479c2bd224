"""Debris: what writers that died, or lost a race, leave behind. No reader ever sees it; it only takes space."""

import time
from collections.abc import Callable, Iterator
from functools import cache

from ltdd_ray.common.errors import UserError
from ltdd_ray.store.location import Folder, open_folder, storage_errors
from ltdd_ray.store.manifest import Stage, parse_name, read_manifest

MIN_AGE = 3600.0  # seconds; only asked where locks cannot tell a live writer


def collect_garbage(uri: str, min_age: float = MIN_AGE) -> list[str]:
    """Remove temporaries and data files that no manifest points to, and return their names.

    Files of live writers stay: on a local file system they are locked. On object stores, and on file systems without locks,
    files younger than ``min_age`` seconds stay instead, by the store's clock and not by this machine's. Raises ``UserError``
    where there is no store.
    """
    folder = open_folder(uri)
    with storage_errors(folder.uri, "clean the trajectory store"):
        if not folder.exists():
            raise UserError(f"{folder.uri}: no trajectory store here; check the path")
        return remove_debris(folder, min_age=min_age)


def remove_debris(
    folder: Folder, only: tuple[int, Stage] | None = None, min_age: float = MIN_AGE
) -> list[str]:
    """:func:`collect_garbage` of an open folder, of one trajectory or of all."""
    removed = []
    for name in debris(folder, only, min_age, cache(folder.clock)):
        folder.remove(name)
        removed.append(name)
    return removed


def debris(
    folder: Folder,
    only: tuple[int, Stage] | None = None,
    min_age: float = MIN_AGE,
    clock: Callable[[], float] = time.time,
) -> Iterator[str]:
    """Names of unreferenced files without a live writer. Each stays claimed until the next one is asked for."""
    for name in folder.names():
        parsed = parse_name(name)
        if (
            parsed is None
            or parsed.kind == "json"
            or (only and only != (parsed.expert, parsed.stage))
        ):
            continue
        if _is_referenced(folder, name, parsed.expert, parsed.stage):
            continue
        with folder.unowned(name, min_age, clock) as unowned:
            # The manifest is read again after the claim: a writer lets go of its file only once its manifest is in place.
            if unowned and not _is_referenced(folder, name, parsed.expert, parsed.stage):
                yield name


def _is_referenced(folder: Folder, name: str, expert: int, stage: Stage) -> bool:
    try:
        manifest = read_manifest(folder, expert, stage)
    except UserError:
        return not name.endswith(
            ".tmp"
        )  # a manifest that cannot be read may point to any data file
    return manifest is not None and manifest.file == name
