"""The 3x3 convolution of a ConvNet, its two gradients and their derivatives along a direction, channels-last.

They run as the kernels of ``winograd.py`` where those are faster, else as torch's.

B batch, K channels in, C channels out, H x W size; x (B, K, H, W), u (B, C, H, W), w (C, K, 3, 3). A ``bar`` marks a gradient, a
``dot`` the derivative along a direction; a ``pair`` (B, 2C, H, W) holds a tensor and its dot, an ``extra`` (B, C, H, W) what is
still to be added to the dot. Products are in the dtype of x and u, which may be half of w's.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import conv2d

from ltdd_ray.nn.kernels import winograd


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def convolution_dtype(theta: Tensor) -> torch.dtype:
    """What convolutions of theta's network compute in, and what lies between them is kept in: autocast's dtype, else theta's."""
    device = theta.device.type
    asked = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if asked else theta.dtype


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """u. Of one channel both memory formats are the same, and torch then chooses the other one for u."""
    if winograd.suits(x, len(weight)):
        return winograd.convolve(x, _taps(weight))
    return channels_last(conv2d(x, weight.to(x.dtype), padding=1))


def convolution_pair(
    x: Tensor, x_dot: Tensor | None, weight: Tensor, weight_dot: Tensor
) -> tuple[Tensor, Tensor | None]:
    """A pair of u, and its extra. Without ``x_dot`` x is at rest."""
    if winograd.suits(x, len(weight)):
        return winograd.convolve_pair(x, x_dot, _taps(weight), _taps(weight_dot)), None
    return convolution(x, torch.cat([weight, weight_dot])), None if x_dot is None else convolution(
        x_dot, weight
    )


def input_bar(u_bar: Tensor, weight: Tensor) -> Tensor:
    """x_bar from u_bar."""
    if winograd.suits(u_bar, weight.shape[1]):
        return winograd.convolve(u_bar, _turned_taps(weight))
    like = u_bar[:, :1].expand(-1, weight.shape[1], -1, -1)
    x = torch.empty_like(like, memory_format=torch.channels_last)  # its values do not enter
    return _backward(x, u_bar, weight, [True, False, False])[0]


def input_bar_pair(
    u_bar: Tensor, u_bar_dot: Tensor, weight: Tensor, weight_dot: Tensor
) -> tuple[Tensor, Tensor | None]:
    """A pair of x_bar, and its extra."""
    if winograd.suits(u_bar, weight.shape[1]):
        return winograd.convolve_pair(
            u_bar, u_bar_dot, _turned_taps(weight), _turned_taps(weight_dot)
        ), None
    return input_bar(u_bar, torch.cat([weight, weight_dot], 1)), input_bar(u_bar_dot, weight)


def weight_bar(x: Tensor, u_bar: Tensor, weight: Tensor) -> Tensor:
    """w_bar from u_bar; of ``weight`` only the shape counts."""
    if winograd.suits(x, len(weight)):
        return winograd.taps_bar(x, u_bar).permute(3, 2, 0, 1)
    return _backward(x, u_bar, weight, [False, True, False])[1]


class Convolution(nn.Conv2d):
    """A 3x3 convolution in front of a norm, which takes its bias away again: where the kernels are used, it has no say."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype == convolution_dtype(self.weight) and winograd.suits(
            input, self.out_channels
        ):
            assert self.bias is not None
            weight = (
                self.weight + 0 * self.bias.sum()
            )  # so that the bias has a gradient, as others expect of a parameter
            return _Convolution.apply(channels_last(input), weight)
        return super().forward(input)


class _Convolution(Function):
    """Being linear in either argument, it and its two gradients are each other's derivatives, as often as one likes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return convolution(x, weight)

    @staticmethod
    def backward(ctx: Any, u_bar: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (x, weight), u_bar, (wants_x, wants_weight) = (
            ctx.saved_tensors,
            channels_last(u_bar),
            ctx.needs_input_grad,
        )
        return (
            _InputBar.apply(u_bar, weight) if wants_x else None,
            _WeightBar.apply(x, u_bar, weight.detach()) if wants_weight else None,
        )


class _InputBar(Function):
    @staticmethod
    def forward(ctx: Any, u_bar: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(u_bar, weight)
        return input_bar(u_bar, weight)

    @staticmethod
    def backward(ctx: Any, along: Tensor) -> tuple[Tensor, Tensor]:
        (u_bar, weight), along = ctx.saved_tensors, channels_last(along)
        return _Convolution.apply(along, weight), _WeightBar.apply(along, u_bar, weight.detach())


class _WeightBar(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, u_bar: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, u_bar)
        return weight_bar(x, u_bar, weight)

    @staticmethod
    def backward(ctx: Any, along: Tensor) -> tuple[Tensor, Tensor, None]:
        x, u_bar = ctx.saved_tensors
        return _InputBar.apply(u_bar, along), _Convolution.apply(x, along), None


def _taps(weight: Tensor) -> Tensor:
    return weight.permute(2, 3, 1, 0).contiguous()


def _turned_taps(weight: Tensor) -> Tensor:
    """Those that take u_bar to x_bar."""
    return weight.flip(2, 3).permute(2, 3, 0, 1).contiguous()


def _backward(
    x: Tensor, u_bar: Tensor, weight: Tensor, mask: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten.convolution_backward(
        u_bar, x, weight.to(x.dtype), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
    )
