"""Every system of the comparison as a few settings laid over one config: what makes the method what it is, and nothing else.

Sizes (updates, steps, rates) stay those of the config, which is written for LTDD; a method is thus measured at the same cost.
"""

import difflib
from pathlib import Path

import yaml

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import merge, parse_config

# In the order of a comparison: the method and its halves, other distillation, selection, references.
METHODS = (
    *("ltdd", "ltdd_mosaic", "ed", "dam", "datm", "mtt", "idm", "dm"),
    *("random", "random_mosaic", "k_center", "k_center_mosaic"),
    *("full_ce", "full_balanced_softmax", "full_decoupled"),
)
_OVERLAYS = {method: Path(__file__).parent / f"{method}.yaml" for method in METHODS}


def method_config(base: RunConfig, method: str) -> RunConfig:
    """``base`` turned into a run of ``method``, one of :data:`METHODS`.

    Raises ``UserError`` for an unknown method, naming the nearest, and where method and config contradict each other.
    """
    if method not in _OVERLAYS:
        near = difflib.get_close_matches(method, METHODS, n=1, cutoff=0.0)
        raise UserError(
            f"unknown method `{method}`; did you mean `{near[0]}`? There are {', '.join(METHODS)}"
        )
    overlay = yaml.safe_load(_OVERLAYS[method].read_text())
    return parse_config(
        merge(base.model_dump(mode="json"), {"method": method, **overlay}),
        where=f"{base.name}, method {method}",
    )
