"""Random tensors for the tests of kernels."""

import torch
from torch import Tensor

from ltdd_ray.nn.kernels.convolution import channels_last


def randn(*shape: int) -> Tensor:
    """In float64; its numbers depend on the sum of ``shape``. Four dimensions are channels-last."""
    generator = torch.Generator().manual_seed(sum(shape))
    tensor = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return channels_last(tensor) if len(shape) == 4 else tensor
