"""The 3x3 convolution of a ConvNet and its two gradients, channels-last.

B batch, K channels in, C channels out, H x W size; x (B, K, H, W), u (B, C, H, W), w (C, K, 3, 3). A ``bar`` marks a gradient.
Products are in the dtype of x and u, which may be half of w's.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d


def convolution_dtype(theta: Tensor) -> torch.dtype:
    """What convolutions of theta's network compute in, and what lies between them is kept in: autocast's dtype, else theta's."""
    device = theta.device.type
    asked = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if asked else theta.dtype


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """u. Of one channel both memory formats are the same, and torch then chooses the other one for u."""
    return conv2d(x, weight.to(x.dtype), padding=1).contiguous(memory_format=torch.channels_last)


def input_bar(u_bar: Tensor, weight: Tensor) -> Tensor:
    """x_bar from u_bar."""
    like = u_bar[:, :1].expand(-1, weight.shape[1], -1, -1)
    x = torch.empty_like(like, memory_format=torch.channels_last)  # its values do not enter
    return _backward(x, u_bar, weight, [True, False, False])[0]


def weight_bar(x: Tensor, u_bar: Tensor, weight: Tensor) -> Tensor:
    """w_bar from u_bar; of ``weight`` only the shape counts."""
    return _backward(x, u_bar, weight, [False, True, False])[1]


def _backward(x: Tensor, u_bar: Tensor, weight: Tensor, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten.convolution_backward(u_bar, x, weight.to(x.dtype), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)
