"""The accuracies that the paper prints, looked up by what a run is about."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ltdd_ray.config import RunConfig


def published_accuracy(config: RunConfig) -> float | None:
    """The published share 0..1 for the config's data, imbalance factor, images per class and method; None where there is none."""
    of_data = _published()["accuracies"].get(config.data.name or config.data.source, {})
    found = of_data.get(config.data.imbalance_factor, {}).get(config.method)
    percent = found.get(config.distill.ipc) if isinstance(found, dict) else found
    return None if percent is None else percent / 100


def published_source() -> str:
    return _published()["source"]


@cache
def _published() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
