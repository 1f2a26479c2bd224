"""The accuracies published in the paper."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml


def published_accuracy(
    dataset: str | None, imbalance_factor: float | None, method: str | None, ipc: int | None
) -> float | None:
    """The published accuracy 0..1 of ``method`` with ``ipc`` images per class, or None.

    ``dataset`` is the config's ``data.name`` (or else ``data.source``) and ``imbalance_factor`` its
    ``data.imbalance_factor``.
    """
    found = _published()["accuracies"].get(dataset, {}).get(imbalance_factor, {}).get(method)
    percent = found.get(ipc) if isinstance(found, dict) else found
    return None if percent is None else percent / 100


def published_source() -> str:
    """The reference of the published accuracies."""
    return _published()["source"]


@cache
def _published() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
