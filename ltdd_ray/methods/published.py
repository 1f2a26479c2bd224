"""The accuracies that the paper prints, looked up by what a run is about."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml


def published_accuracy(
    dataset: str | None, imbalance_factor: float | None, method: str | None, ipc: int | None
) -> float | None:
    """The published share 0..1 for ``ipc`` images per class of ``method``; None where there is none.

    The first two are what a config calls ``data.name`` (or else ``data.source``) and ``data.imbalance_factor``.
    """
    found = _published()["accuracies"].get(dataset, {}).get(imbalance_factor, {}).get(method)
    percent = found.get(ipc) if isinstance(found, dict) else found
    return None if percent is None else percent / 100


def published_source() -> str:
    return _published()["source"]


@cache
def _published() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
