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
from ltdd_ray.config.loading import merge, parse_config

# In the order of a comparison: LTDD and its ablations, other distillation, selection, all images.
METHODS = (
    *("ltdd", "ltdd_mosaic", "ed", "dam", "datm", "mtt", "idm", "dm"),
    *("tgdd", "tgdd_mosaic"),
    *("random", "random_mosaic", "k_center", "k_center_mosaic"),
    *("random_soft", "k_center_soft"),
    *("full_ce", "full_balanced_softmax", "full_decoupled"),
)
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

    Raises ``UserError`` for an unknown method, naming the nearest, and where the settings of method
    and config contradict each other.
    """
    try:
        REGISTRY.check(method)
    except ValueError as error:
        raise UserError(str(error)) from None
    overlay = REGISTRY.get(method)
    if overlay is None:
        overlay = yaml.safe_load(_OVERLAYS[method].read_text())
    return parse_config(
        merge(base.model_dump(mode="json"), {"method": method, **overlay}),
        where=f"{base.name}, method {method}",
    )
