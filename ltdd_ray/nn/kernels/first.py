"""The first block of a ConvNet, from images of few channels; its gradients and their tangents.

The block is a 3x3 convolution, then the norm, ReLU and pooling of ``fused.py``. The convolution's
output u is the largest tensor of a network, and quick to compute. On a CPU the kernels of
``first.c`` keep it in cache for one image at a time and compute it anew in the backward pass.
Elsewhere, and for more image channels, u is a tensor that the caller keeps.

B batch, K image channels, C channels out, H x W size; x (B, K, H, W), y (B, C, H/2, W/2), weight
(C, K, 3, 3), gamma and beta (C,). A ``dot`` marks the derivative along a direction, a ``bar`` a
gradient; a ``pair`` (B, 2C, ...) holds a tensor and its dot.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ltdd_ray.nn.kernels import fused
from ltdd_ray.nn.kernels.build import kernels_for
from ltdd_ray.nn.kernels.convolution import (
    channels_last,
    convolution,
    convolution_pair,
    input_bar,
    weight_bar,
)
from ltdd_ray.nn.kernels.reference import Affine

_MOST_CHANNELS, _COLUMNS, _FOLD = 3, 32, 4  # as in first.c


def forward(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """y, and for :func:`backward` u, None where that computes it anew, and statistics.

    Raises ``RuntimeError`` if x is smaller than 2 x 2 pixels.
    """
    fused.refuse_small(x)
    kernels = _kernels(x)
    if kernels is None:
        u = convolution(x, weight)
        y, stats = fused.forward(u, gamma, beta)
        return y, u, stats
    y, stats = fused.halved(x, len(weight)), x.new_empty(2, len(x), len(weight))
    _call(kernels.first_forward, x, weight, _taps(weight), gamma, beta, y, stats)
    return y, None, stats


def backward(
    x: Tensor,
    weight: Tensor,
    u: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    stats: Tensor,
    y_bar: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """weight_bar (C, K, 3, 3), gamma_bar (C,) and beta_bar (C,)."""
    if u is not None:
        u_bar, gamma_bar, beta_bar = fused.backward(u, gamma, beta, stats, y_bar)
        return weight_bar(x, u_bar, weight), gamma_bar, beta_bar
    kernels, params_bar, weight_bars = _kernels(x), *_empty_bars(x, weight)
    numbers = (_taps(weight), None, gamma, beta, stats, channels_last(y_bar))
    _call(kernels.first_backward, x, weight, *numbers, params_bar, weight_bars, None)
    gamma_bar, beta_bar = params_bar.sum(1)
    return _summed(weight_bars, weight), gamma_bar, beta_bar


def image_bar(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, stats: Tensor, y_bar: Tensor
) -> Tensor:
    """x_bar (B, K, H, W)."""
    kernels = _kernels(x)
    if kernels is None:
        u_bar, *_ = fused.backward(convolution(x, weight), gamma, beta, stats, y_bar)
        return input_bar(u_bar, weight)
    params_bar, _ = _empty_bars(x, weight)
    numbers = (_taps(weight), _columns(weight), gamma, beta, stats, channels_last(y_bar))
    x_bar = _empty_image_bar(x)
    _call(kernels.first_backward, x, weight, *numbers, params_bar, None, x_bar)
    return x_bar[:, : x.shape[1]]


def tangent_forward(
    x: Tensor, weight: Tensor, weight_dot: Tensor, affine: Affine
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """y, y_dot, and for :func:`tangent_backward` the pair of u, None where that computes it anew,
    and statistics.
    """
    kernels, (batch, *_) = _kernels(x), x.shape
    if kernels is None:
        u_pair, u_extra = convolution_pair(x, None, weight, weight_dot)
        y, y_dot, stats = fused.tangent_forward(u_pair, u_extra, affine)
        return y, y_dot, u_pair, stats
    y, y_dot = fused.halved(x, len(weight)), fused.halved(x, len(weight))
    stats = x.new_empty(4, batch, len(weight))
    numbers = (affine.gamma, affine.beta, affine.gamma_dot, affine.beta_dot)
    taps = _taps(weight), _taps(weight_dot)
    _call(kernels.first_tangent_forward, x, weight, *taps, *numbers, y, y_dot, stats)
    return y, y_dot, None, stats


def tangent_backward(
    x: Tensor,
    weight: Tensor,
    weight_dot: Tensor,
    u_pair: Tensor | None,
    affine: Affine,
    stats: Tensor,
    y_bar_pair: Tensor,
    y_bar_extra: Tensor | None,
    with_weights: bool,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """x_bar_dot (B, K, H, W), weight_bar_dot (C, K, 3, 3), gamma_bar_dot (C,), beta_bar_dot (C,).

    ``y_bar_extra`` (B, C, H/2, W/2) is a part of y_bar_dot. Without ``with_weights``
    weight_bar_dot is None.
    """
    if u_pair is not None:
        u_bar, u_bar_dot, gamma_bar_dot, beta_bar_dot = fused.tangent_backward(
            u_pair, affine, stats, y_bar_pair, y_bar_extra
        )
        x_bar_dot = input_bar(u_bar_dot, weight) + input_bar(u_bar, weight_dot)
        weight_bar_dot = weight_bar(x, u_bar_dot, weight) if with_weights else None
        return x_bar_dot, weight_bar_dot, gamma_bar_dot, beta_bar_dot
    kernels, params_bar_dot, weight_bars = _kernels(x), *_empty_bars(x, weight)
    x_bar_dot = _empty_image_bar(x)
    _call(
        kernels.first_tangent_backward,
        *(x, weight, _taps(weight), _taps(weight_dot), _columns(weight), _columns(weight_dot)),
        *(affine.gamma, affine.beta, affine.gamma_dot, stats, y_bar_pair, y_bar_extra),
        *(params_bar_dot, weight_bars if with_weights else None, x_bar_dot),
    )
    gamma_bar_dot, beta_bar_dot = params_bar_dot.sum(1)
    weight_bar_dot = _summed(weight_bars, weight) if with_weights else None
    return x_bar_dot[:, : x.shape[1]], weight_bar_dot, gamma_bar_dot, beta_bar_dot


def _kernels(x: Tensor) -> Any:
    """The kernels for images x, or None where there are none."""
    return kernels_for(x) if x.shape[1] <= _MOST_CHANNELS else None


def _call(kernel: Any, x: Tensor, weight: Tensor, *tensors: Tensor | None) -> None:
    framed = channels_last(pad(x, (1, 1, 1, 1)))
    fused.call(kernel, x, len(weight), framed, *tensors, numbers=(x.shape[1],))


def _taps(weight: Tensor) -> Tensor:
    """(9K, C)."""
    return weight.permute(2, 3, 1, 0).reshape(-1, len(weight)).contiguous()


def _columns(weight: Tensor) -> Tensor:
    """(C, 32): the taps of each output channel, and zeros."""
    rows = weight.permute(0, 2, 3, 1).flatten(1)
    return pad(rows, (0, _COLUMNS - rows.shape[1])).contiguous()


def _empty_bars(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Room for the bars of gamma and beta (2, B, C), and of the taps (B, 9K, C), of each image."""
    channels = len(weight)
    taps = x.new_empty(len(x), 9 * x.shape[1], channels)
    return x.new_empty(2, len(x), channels), taps


def _empty_image_bar(x: Tensor) -> Tensor:
    shape = (len(x), _FOLD, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)


def _summed(weight_bars: Tensor, weight: Tensor) -> Tensor:
    """w_bar (C, K, 3, 3) from those of each image (B, 9K, C)."""
    return weight_bars.sum(0).view(3, 3, weight.shape[1], -1).permute(3, 2, 0, 1)
