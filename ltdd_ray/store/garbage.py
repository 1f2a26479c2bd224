"""Debris: files of writers that died or lost a race. Readers ignore it; it only takes space."""

import time
from collections.abc import Callable, Iterator
from functools import cache

from ltdd_ray.common.errors import UserError
from ltdd_ray.store.location import Folder, near_folder, open_folder, storage_errors
from ltdd_ray.store.manifest import Stage, parse_name, read_manifest

MIN_AGE = 3600.0  # seconds; used only where locks cannot show a live writer


def collect_garbage(uri: str, min_age: float = MIN_AGE) -> list[str]:
    """Remove temporaries and data files that no manifest points to, and return their names.

    Files of live writers stay: on a local file system they are locked. On object stores, and on
    file systems without locks, files younger than ``min_age`` seconds stay instead. Their age is
    measured by the store's clock, not by this machine's. Raises ``UserError`` if there is no store.
    """
    folder = open_folder(uri)
    with storage_errors(folder.uri, "clean the trajectory store"):
        if not folder.exists():
            hint = near_folder(folder.uri)
            raise UserError(f"{folder.uri}: no trajectory store here; check the path{hint}")
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
    """Names of unreferenced files without a live writer. Each stays locked until the next step."""
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
            # A writer unlocks its file only after its manifest is in place: read that once more.
            if unowned and not _is_referenced(folder, name, parsed.expert, parsed.stage):
                yield name


def _is_referenced(folder: Folder, name: str, expert: int, stage: Stage) -> bool:
    try:
        manifest = read_manifest(folder, expert, stage)
    except UserError:
        return not name.endswith(".tmp")  # an unreadable manifest may name any data file
    return manifest is not None and manifest.file == name
