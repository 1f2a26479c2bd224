"""Dataset distillation for long-tailed data, distributed with Ray."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from ltdd_ray.distill.artifact import DistilledSet

__version__ = "0.1.0"


def load_distilled(path: "str | PathLike[str]") -> "DistilledSet":
    """The distilled set in a run's folder (or its ``distilled`` folder, or the file itself).

    A torch ``Dataset`` of (image (K, H, W) in model space, soft label (C,)), with ``.learning_rate``, ``.class_names`` and
    ``.denormalize()``. Raises ``UserError`` if there is none.
    """
    return import_module("ltdd_ray.distill.artifact").DistilledSet.load(path)
