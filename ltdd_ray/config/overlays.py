"""What `method: NAME` chooses: a small overlay of settings, laid over a config.

An overlay holds only what defines the method, and the rate of its optimiser where that is another
one. Sizes (images, updates, steps) stay those of the config. `evaluate.sets` is part of an overlay
only where the method distils nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import reduce
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


def last_method(names: Sequence[Any]) -> int | None:
    """Where the last name of a method stands in ``names``; None if none names a method."""
    known = known_methods()
    return max((index for index, name in enumerate(names) if name in known), default=None)


def engine_of(trees: Sequence[Mapping[str, Any]]) -> str:
    """The engine of ``trees``, each laid over those before it: its own, or its method's.

    Not that of a method with experts of its own, which it would be refused without.
    """
    names = [tree.get("method") for tree in trees]
    at = last_method(names)
    own = {} if at is None else method_settings(str(names[at]))
    engine = MATCHING if "experts" in own else own.get("distill", {}).get("engine", MATCHING)
    return reduce(merge, trees, {}).get("distill", {}).get("engine", engine)


def with_method(tree: Mapping[str, Any], method: str, before: str) -> dict[str, Any]:
    """``tree``, nested settings, with those of ``method`` in place of its own.

    Rates, weights and layers that were chosen for one engine of ``distill.distribution`` do not
    suit another, so another engine gets the sizes alone. The same engine keeps the rate of the
    tree. ``before`` is the engine of ``tree``, which a method without one keeps.
    """
    own = method_settings(method)
    merged = merge(merge(tree, {"distill": {"engine": before}}), own)
    chosen = tree.get("distill", {}).get("distribution", {})
    after = own.get("distill", {}).get("engine", before)
    if before == after:
        kept = merge(merged["distill"].get("distribution", {}), _part(chosen, [RATE]))
    elif MATCHING in (before, after):
        return merged
    else:
        kept = merge(_part(chosen, SIZES), own["distill"].get("distribution", {}))
    return {**merged, "distill": {**merged["distill"], "distribution": kept}}


def _part(settings: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key in keys}
