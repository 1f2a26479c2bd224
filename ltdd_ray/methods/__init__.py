"""The methods of a comparison. Each is a small overlay of settings over a config.

An overlay holds only what defines the method. Sizes (updates, steps, rates) stay those of the
config, which is written for LTDD, so that all methods are compared at the same cost.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.registry import Registry
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import leaves, merge, parse_config

# In the order of a comparison: LTDD and its ablations, other distillation, selection, all images.
METHODS = (
    *("ltdd", "ltdd_mosaic", "ed", "dam", "datm", "mtt", "idm", "dm", "dc", "dream"),
    *("tgdd", "tgdd_mosaic", "rldd"),
    *("random", "random_mosaic", "k_center", "k_center_mosaic", "graph_cut"),
    *("random_soft", "random_soft_mosaic", "k_center_soft", "k_center_soft_mosaic"),
    *("full_ce", "full_balanced_softmax", "full_decoupled"),
)
# Sets of the same images, of which a comparison shows one number or score each.
FORMS = ("_hard", "_unaugmented")
REGISTRY = Registry[Mapping[str, Any]]("method", METHODS)
_OVERLAYS = {method: Path(__file__).parent / f"{method}.yaml" for method in METHODS}


def known_methods() -> tuple[str, ...]:
    """The built-in methods in the order of a comparison, then the registered ones."""
    return REGISTRY.names


def register_method(name: str, overlay: Mapping[str, Any]) -> None:
    """Make ``overlay``, nested settings laid over a config, a method of ``ltdd-ray compare``.

    For example ``register_method("plain", {"distill": {"lambda_cls": 0.0}})``. Its settings are
    validated with the config that it is laid over. Raises ``UserError`` for a built-in name.
    """
    REGISTRY.register(name, overlay)


def method_config(base: RunConfig, method: str) -> RunConfig:
    """``base`` turned into a run of ``method``, one of :func:`known_methods`.

    Networks are trained on the sets of the method alone, and where ``base`` asks for it, on the
    method's set with hard labels (``distilled_hard``) and without augmentation
    (``distilled_unaugmented``, ``random_soft_unaugmented``).

    Raises ``UserError`` for an unknown method, naming the nearest, and where the settings of method
    and config contradict each other.
    """
    try:
        REGISTRY.check(method)
    except ValueError as error:
        raise UserError(str(error)) from None
    tree = merge(base.model_dump(mode="json"), {"method": method, **_overlay(method)})
    sets = tree["evaluate"]["sets"]
    forms = {f"{name}{form}" for name in sets[:1] for form in FORMS}
    wanted = [name for name in base.evaluate.sets if name in forms.difference(sets)]
    return parse_config(
        merge(tree, {"evaluate": {"sets": [*sets, *wanted]}}) if wanted else tree,
        where=f"{base.name}, method {method}",
    )


def unlike_method(settings: Mapping[str, Any], method: str) -> list[str]:
    """Where ``settings`` {dotted key: value} distill otherwise than ``method``, a phrase per key.

    A method is the settings of its overlay; ``method`` in a config is only the name of the set.
    Empty for a name that is no method.
    """
    if method not in known_methods():
        return []
    own = leaves({"distill": _overlay(method).get("distill", {})})
    return [
        f"{key} is {settings[key]}, which is {value} in `{method}`"
        for key, value in own
        if settings.get(key, value) != value
    ]


def name_note(config: RunConfig) -> str:
    """A sentence where the set has the name of a method and other settings than it, else empty."""
    method = config.method
    unlike = unlike_method(dict(leaves(config.model_dump(mode="json"))), method)
    if not unlike:
        return ""
    return (
        f"`method: {method}` only names the set, and its settings are others: "
        f"{'; '.join(unlike)}. Give it a name of its own, or let `ltdd-ray compare` with "
        f"`--methods {method}` choose the settings"
    )


def _overlay(method: str) -> Mapping[str, Any]:
    overlay = REGISTRY.get(method)
    return yaml.safe_load(_OVERLAYS[method].read_text()) if overlay is None else overlay
