"""Dataset distillation for long-tailed data, distributed with Ray.

Importing this package imports nothing else: every name below is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltdd_ray.api import (
        Comparison,
        Results,
        compare,
        data_info,
        init,
        load_data,
        load_distilled,
        run,
    )
    from ltdd_ray.common.errors import UserError
    from ltdd_ray.config.loading import load_base_config, load_config
    from ltdd_ray.data.dataset import LongTailedDataset
    from ltdd_ray.data.sources import register_source
    from ltdd_ray.distill.artifact import DistilledSet
    from ltdd_ray.distill.trajectory.matching import match
    from ltdd_ray.evaluate.any_network import evaluate
    from ltdd_ray.methods import register_method
    from ltdd_ray.nn.networks import register_network

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "DistilledSet",
    "LongTailedDataset",
    "Results",
    "UserError",
    "compare",
    "data_info",
    "evaluate",
    "init",
    "load_base_config",
    "load_config",
    "load_data",
    "load_distilled",
    "match",
    "register_method",
    "register_network",
    "register_source",
    "run",
]

_MODULES = {
    "Comparison": "ltdd_ray.api",
    "DistilledSet": "ltdd_ray.distill.artifact",
    "LongTailedDataset": "ltdd_ray.data.dataset",
    "Results": "ltdd_ray.api",
    "UserError": "ltdd_ray.common.errors",
    "compare": "ltdd_ray.api",
    "data_info": "ltdd_ray.api",
    "init": "ltdd_ray.api",
    "load_base_config": "ltdd_ray.config.loading",
    "load_config": "ltdd_ray.config.loading",
    "load_data": "ltdd_ray.api",
    "load_distilled": "ltdd_ray.api",
    "match": "ltdd_ray.distill.trajectory.matching",
    "register_method": "ltdd_ray.methods",
    "register_network": "ltdd_ray.nn.networks",
    "register_source": "ltdd_ray.data.sources",
    "run": "ltdd_ray.api",
}


def __getattr__(name: str) -> Any:
    if name == "evaluate":  # a room whose module can be called, see its __init__
        return import_module("ltdd_ray.evaluate")
    if name not in _MODULES:
        raise AttributeError(f"module 'ltdd_ray' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
