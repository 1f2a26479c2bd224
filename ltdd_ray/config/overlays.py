"""What `method: NAME` chooses: a small overlay of settings, laid over a config.

An overlay holds only what defines the method. Sizes (updates, steps, rates) stay those of the
config. `evaluate.sets` is part of an overlay only where the method distils nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ltdd_ray.common.registry import Registry

FOLDER = Path(__file__).parents[1] / "methods"
# In the order of a comparison: LTDD and its ablations, other distillation, selection, all images.
METHODS = (
    *("ltdd", "ltdd_mosaic", "ed", "dam", "datm", "mtt", "idm", "dm", "dc", "dream"),
    *("tgdd", "tgdd_mosaic", "rldd"),
    *("random", "random_mosaic", "k_center", "k_center_mosaic", "graph_cut"),
    *("random_soft", "random_soft_mosaic", "k_center_soft", "k_center_soft_mosaic"),
    *("full_ce", "full_balanced_softmax", "full_decoupled"),
)
REGISTRY = Registry[Mapping[str, Any]]("method", METHODS)


def known_methods() -> tuple[str, ...]:
    """The built-in methods in the order of a comparison, then the registered ones."""
    return REGISTRY.names


def method_settings(method: str) -> Mapping[str, Any]:
    """The overlay of ``method``, nested settings; none for a name that is no method."""
    if method not in METHODS:
        return REGISTRY.get(method) or {}
    return yaml.safe_load((FOLDER / f"{method}.yaml").read_text())
