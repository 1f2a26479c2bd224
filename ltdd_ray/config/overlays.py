"""What `method: NAME` chooses: a small overlay of settings, laid over a config.

An overlay holds only what defines the method, and the rate of its optimiser where that is another
one. Sizes (images, updates, steps) stay those of the config. `evaluate.sets` is part of an overlay
only where the method distils nothing.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from ltdd_ray.common.registry import Registry
from ltdd_ray.config.nested import merge

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
MATCHING = "matching"  # the default of `distill.engine`
SIZES = ("updates", "real_batch")  # what all engines of `distill.distribution` have in common
RATE = "lr_image"


def known_methods() -> tuple[str, ...]:
    """The built-in methods in the order of a comparison, then the registered ones."""
    return REGISTRY.names


def method_settings(method: str) -> Mapping[str, Any]:
    """The overlay of ``method``, nested settings; none for a name that is no method."""
    if method not in METHODS:
        return REGISTRY.get(method) or {}
    return yaml.safe_load((FOLDER / f"{method}.yaml").read_text())


def with_method(tree: Mapping[str, Any], method: str) -> dict[str, Any]:
    """``tree``, nested settings, with those of ``method`` in place of its own.

    Rates, weights and layers that were chosen for one engine of ``distill.distribution`` do not
    suit another, so another engine gets the sizes alone. The same engine keeps the rate of the
    tree.
    """
    own, distill = method_settings(method), tree.get("distill")
    merged = merge(tree, own)
    chosen = distill.get("distribution") if isinstance(distill, dict) else None
    after = own.get("distill", {}).get("engine")
    if after is None or not isinstance(distill, dict) or not isinstance(chosen, dict):
        return merged
    before = distill.get("engine", MATCHING)
    if before == after:
        kept = merge(merged["distill"]["distribution"], _part(chosen, [RATE]))
    elif MATCHING in (before, after):
        kept = merged["distill"]["distribution"]
    else:
        kept = merge(_part(chosen, SIZES), own["distill"].get("distribution", {}))
    return {**merged, "distill": {**merged["distill"], "distribution": kept}}


def _part(settings: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key in keys}
