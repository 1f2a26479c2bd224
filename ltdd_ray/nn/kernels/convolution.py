"""A ConvNet's 3x3 convolution, its gradients and their tangents, channels-last.

They run as the kernels of ``winograd.py`` where those are faster, else as torch's.

B batch, K channels in, C channels out, H x W size; x (B, K, H, W), u (B, C, H, W), w (C, K, 3, 3).
A ``bar`` marks a gradient, a ``dot`` the derivative along a direction. A ``pair`` (B, 2C, H, W)
holds a tensor and its dot; an ``extra`` (B, C, H, W) is still to be added to the dot. Products are
in the dtype of x and u, which may have half as many bits as w's.
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
    """The dtype of convolutions and activations: autocast's where it is on, else theta's."""
    device = theta.device.type
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if enabled else theta.dtype


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """u from x."""
    if winograd.suits(x, len(weight)):
        return winograd.convolve(x, _taps(weight))
    # An image of one channel has both memory formats, and torch then returns u in the other one.
    return channels_last(conv2d(x, weight.to(x.dtype), padding=1))


def convolution_pair(
    x: Tensor, x_dot: Tensor | None, weight: Tensor, weight_dot: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The pair of u, and its extra. Without ``x_dot`` the dot of x is zero."""
    if winograd.suits(x, len(weight)):
        return winograd.convolve_pair(x, x_dot, _taps(weight), _taps(weight_dot)), None
    extra = None if x_dot is None else convolution(x_dot, weight)
    return convolution(x, torch.cat([weight, weight_dot])), extra


def input_bar(u_bar: Tensor, weight: Tensor) -> Tensor:
    """x_bar from u_bar."""
    if winograd.suits(u_bar, weight.shape[1]):
        return winograd.convolve(u_bar, _turned_taps(weight))
    like = u_bar[:, :1].expand(-1, weight.shape[1], -1, -1)
    x = torch.empty_like(like, memory_format=torch.channels_last)  # only its shape is used
    return _backward(x, u_bar, weight, [True, False, False])[0]


def input_bar_pair(
    u_bar: Tensor, u_bar_dot: Tensor, weight: Tensor, weight_dot: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The pair of x_bar, and its extra."""
    if winograd.suits(u_bar, weight.shape[1]):
        taps, taps_dot = _turned_taps(weight), _turned_taps(weight_dot)
        return winograd.convolve_pair(u_bar, u_bar_dot, taps, taps_dot), None
    return input_bar(u_bar, torch.cat([weight, weight_dot], 1)), input_bar(u_bar_dot, weight)


def weight_bar(x: Tensor, u_bar: Tensor, weight: Tensor) -> Tensor:
    """w_bar from x and u_bar; only the shape of ``weight`` is used."""
    if winograd.suits(x, len(weight)):
        return winograd.taps_bar(x, u_bar).permute(3, 2, 0, 1)
    return _backward(x, u_bar, weight, [False, True, False])[1]


def weight_bar_dot(
    x: Tensor, x_dot: Tensor, u_bar: Tensor, u_bar_dot: Tensor, weight: Tensor
) -> Tensor:
    """The dot of w_bar; only the shape of ``weight`` is used."""
    if winograd.suits(x, len(weight)):
        return winograd.taps_bar(x, u_bar_dot, x_dot, u_bar).permute(3, 2, 0, 1)
    return weight_bar(x, u_bar_dot, weight) + weight_bar(x_dot, u_bar, weight)


class Convolution(nn.Conv2d):
    """A 3x3 convolution in front of a norm.

    The norm cancels the bias, so the kernels leave it out.
    """

    def __init__(self, channels_in: int, channels_out: int, bias: bool = True) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype == convolution_dtype(self.weight) and winograd.suits(
            input, self.out_channels
        ):
            # A bias gets a gradient of zero, because callers expect one of every parameter.
            weight = self.weight if self.bias is None else self.weight + 0 * self.bias.sum()
            return _Convolution.apply(channels_last(input), weight)
        return super().forward(input)


class _Convolution(Function):
    """Differentiable any number of times.

    The convolution is linear in x and in w, so each derivative of it and of its two gradients is
    one of these three operations again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return convolution(x, weight)

    @staticmethod
    def backward(ctx: Any, u_bar: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (x, weight), u_bar = ctx.saved_tensors, channels_last(u_bar)
        wants_x, wants_weight = ctx.needs_input_grad
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
    def backward(ctx: Any, x_dot: Tensor) -> tuple[Tensor, Tensor]:
        (u_bar, weight), x_dot = ctx.saved_tensors, channels_last(x_dot)
        return _Convolution.apply(x_dot, weight), _WeightBar.apply(x_dot, u_bar, weight.detach())


class _WeightBar(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, u_bar: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, u_bar)
        return weight_bar(x, u_bar, weight)

    @staticmethod
    def backward(ctx: Any, weight_dot: Tensor) -> tuple[Tensor, Tensor, None]:
        x, u_bar = ctx.saved_tensors
        return _InputBar.apply(u_bar, weight_dot), _Convolution.apply(x, weight_dot), None


def _taps(weight: Tensor) -> Tensor:
    return weight.permute(2, 3, 1, 0).contiguous()


def _turned_taps(weight: Tensor) -> Tensor:
    """The taps of the convolution that takes u_bar to x_bar."""
    return weight.flip(2, 3).permute(2, 3, 0, 1).contiguous()


def _backward(
    x: Tensor, u_bar: Tensor, weight: Tensor, mask: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten.convolution_backward(
        u_bar, x, weight.to(x.dtype), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
    )
