"""The methods of a comparison: the overlay of each laid over one config.

Sizes (images, updates, steps) stay those of the config, so that all methods are compared at the
same cost.
"""

from collections.abc import Mapping
from typing import Any

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.hints import nearest
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import parse_config
from ltdd_ray.config.nested import leaves, merge
from ltdd_ray.config.overlays import (
    METHODS,
    RATE,
    REGISTRY,
    known_methods,
    method_settings,
    with_method,
)
from ltdd_ray.config.section import require_sections

__all__ = [
    "METHODS",
    "known_methods",
    "method_config",
    "name_note",
    "register_method",
    "unlike_method",
]
# Sets of the same images, of which a comparison shows one number or score each.
FORMS = ("_hard", "_unaugmented")


def register_method(name: str, overlay: Mapping[str, Any]) -> None:
    """Make ``overlay``, nested settings laid over a config, a method as the built-in ones.

    For example ``register_method("plain", {"distill": {"lambda_cls": 0.0}})``. Its settings are
    validated with the config that it is laid over. Raises ``UserError`` for a built-in name and
    for a section that is no mapping.
    """
    if name not in METHODS:  # those are refused below
        require_sections(overlay, RunConfig, f"method {name}")
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
    plain = merge(base.model_dump(mode="json"), {"evaluate": {"sets": ["distilled"]}})
    tree = {**with_method(plain, method, base.distill.engine), "method": method}
    sets = tree["evaluate"]["sets"]
    forms = {f"{name}{form}" for name in sets[:1] for form in FORMS}
    wanted = [name for name in base.evaluate.sets if name in forms.difference(sets)]
    return parse_config(
        merge(tree, {"evaluate": {"sets": [*sets, *wanted]}}) if wanted else tree,
        where=f"{base.name}, method {method}",
    )


def unlike_method(settings: Mapping[str, Any], method: str) -> list[str]:
    """Where ``settings`` {dotted key: value} distill otherwise than ``method``, a phrase per key.

    Settings of the config that stand beside or after its ``method`` win over the method's own. A
    rate may be tuned. Empty for a name that is no method.
    """
    if method not in known_methods():
        return []
    own = leaves({"distill": method_settings(method).get("distill", {})})
    return [
        f"{key} is {settings[key]}, which is {value} in `{method}`"
        for key, value in own
        if settings.get(key, value) != value and not key.endswith(f".distribution.{RATE}")
    ]


def name_note(config: RunConfig) -> str:
    """A sentence where ``method`` names no method, or one with other settings; else empty."""
    method, known = config.method, known_methods()
    if method not in known:
        return (
            f"no method is called `{method}`, so it only names the set"
            f"{nearest(method.lower(), known)}"
        )
    if "engine" in method_settings(method).get("distill", {}) and not config.distils:
        return f"`{method}` distils nothing here, as evaluate.sets has no distilled set"
    unlike = unlike_method(dict(leaves(config.model_dump(mode="json"))), method)
    if not unlike:
        return ""
    return f"this is not `{method}` as it is defined: {'; '.join(unlike)}"
