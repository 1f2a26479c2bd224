"""Images of 8 bits inside the loop: rounded for what looks at them, not for their gradient.

Rounding has a gradient of 0 almost everywhere. The straight-through estimator (Bengio et al., arXiv
1308.3432) takes it for the identity, as QuADD (CVPR 2026) does for distilled images. Values outside
0..255 are clipped, and their gradient passes straight through as well.

B images, K x H x W image shape.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from ltdd_ray.data.normalisation import Normalisation

LEVELS = 255


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels, clipped to 0..1 and rounded, as uint8."""
    return pixels.clamp(0, 1).mul(LEVELS).round().to(torch.uint8)


def round_images(images: Tensor, normalisation: Normalisation) -> Tensor:
    """Images (B, K, H, W) in model space at the nearest pixels of 8 bits; differentiable.

    Rounding once more changes nothing, to the bit.
    """
    rounded: Tensor = _StraightThrough.apply(images, normalisation)
    return rounded


class _StraightThrough(Function):
    @staticmethod
    def forward(ctx, images: Tensor, normalisation: Normalisation) -> Tensor:
        return normalisation.apply(to_bytes(normalisation.invert(images)))

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
