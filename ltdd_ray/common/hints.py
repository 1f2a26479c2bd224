"""Near misses: the name that somebody may have meant."""

import difflib
from collections.abc import Iterable
from pathlib import Path

MOST_ENTRIES = 10_000  # of a folder; a hint is not worth reading more


def nearest(name: str, names: Iterable[str]) -> str:
    """``"; did you mean `x`?"`` with the most similar of ``names``; empty where none is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def nearest_path(path: Path | str) -> str:
    """As :func:`nearest`, with what lies beside the missing ``path``, or beside its first missing
    parent: for ``rusn/demo`` that is ``runs/demo``, if it exists.
    """
    path = Path(path)
    missing = next((p for p in (*reversed(path.parents), path) if not _exists(p)), path)
    try:
        beside = {
            entry.name: entry for _, entry in zip(range(MOST_ENTRIES), missing.parent.iterdir())
        }
    except OSError:  # no folder, or one that may not be read
        return ""
    for name in difflib.get_close_matches(missing.name, sorted(beside), n=3):
        found = beside[name] / path.relative_to(missing)
        if _exists(found):
            return f"; did you mean `{found}`?"
    return ""


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
