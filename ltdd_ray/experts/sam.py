"""Sharpness-aware gradients of a loss at theta (P,).

SAM: Foret et al., ICLR 2021. GSAM: Zhuang et al., ICLR 2022 (surrogate gap), here with a constant
radius and weight. ASAM: Kwon et al., ICML 2021 (ascent step scaled by |theta|).
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

Gradient = Callable[[Tensor], Tensor]


def sharpen(
    here: Tensor,
    gradient: Gradient,
    theta: Tensor,
    kind: Literal["none", "sam", "gsam"],
    rho: float,
    alpha: float,
    adaptive: bool = False,
) -> Tensor:
    """The descent direction (P,).

    ``none``: the gradient g itself. ``sam``: the gradient at theta + rho g/|g|. ``gsam``: the
    gradient of ``sam``, minus ``alpha`` times the part of g orthogonal to it. This narrows the gap
    between the losses at the two points.

    Args:
        here: g (P,), the gradient of a batch's loss at theta.
        gradient: computes the gradient of the same loss at another point (P,).
        adaptive: take the ascent step rho theta^2 g/|theta g| instead, element by element.
    """
    if kind == "none":
        return here
    scaled = theta.abs() * here if adaptive else here
    ascent = scaled * (rho / (scaled.norm() + 1e-12))
    perturbed = gradient(theta + (theta.abs() * ascent if adaptive else ascent))
    if kind == "sam":
        return perturbed
    along = (here * perturbed).sum() / (perturbed.square().sum() + 1e-12)
    return perturbed - alpha * (here - along * perturbed)
