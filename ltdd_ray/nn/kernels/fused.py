"""Instance norm, ReLU and 2x2 average pooling as one operation; its gradient and their tangents.

    n = (u - mean) / sqrt(var + eps),   a = gamma n + beta,   y = pool(relu(a))

with mean and var per image and channel. On a CPU the kernels of ``fused.c`` compute it, each going
over an image while that is in cache; on a CUDA GPU those of ``triton.py``; elsewhere, and without a
C compiler, the torch operations of ``reference.py``.

B batch, C channels, H x W size before pooling; u (B, C, H, W), y (B, C, H/2, W/2), all of them
channels-last in memory; gamma and beta (C,). A ``dot`` marks the derivative along a direction, a
``bar`` a gradient; a ``pair`` (B, 2C, ...) holds a tensor and its dot.
"""

import ctypes
import logging
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, conv_transpose2d, pad

from ltdd_ray.nn.kernels import reference
from ltdd_ray.nn.kernels.build import kernels_for
from ltdd_ray.nn.kernels.convolution import channels_last, weight_bar
from ltdd_ray.nn.kernels.reference import EPS, Affine

# Image channels that `fold` and the kernels of the first block take, and the latter's columns, as
# in fused.c.
_FOLD_CHANNELS, _MOST_FIRST, _COLUMNS = 4, 3, 32
log = logging.getLogger(__name__)


def forward(u: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """y, and statistics for :func:`backward`: (2, B, C), or empty where it needs none.

    Raises ``RuntimeError`` if u is smaller than 2 x 2 pixels.
    """
    if min(u.shape[2:]) < 2:
        raise RuntimeError(f"2x2 pooling of {u.shape[2]}x{u.shape[3]} pixels leaves nothing")
    u = channels_last(u)
    if triton := _triton_kernels(u):
        return triton.forward(u, gamma, beta)
    kernels = kernels_for(u)
    if kernels is None:
        return reference.forward(u, gamma, beta), u.new_empty(0)
    y, stats = _halved(u, u.shape[1]), u.new_empty(2, *u.shape[:2])
    _call(kernels.forward, u, u.shape[1], u, gamma, beta, y, stats)
    return y, stats


def backward(
    u: Tensor, gamma: Tensor, beta: Tensor, stats: Tensor, y_bar: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """u_bar, gamma_bar (C,) and beta_bar (C,) from y_bar."""
    u, y_bar = channels_last(u), channels_last(y_bar)
    if triton := _triton_kernels(u):
        return triton.backward(u, gamma, beta, stats, y_bar)
    kernels = kernels_for(u)
    if kernels is None:
        return reference.backward(u, gamma, beta, y_bar)
    u_bar, params_bar = torch.empty_like(u), u.new_empty(2, *u.shape[:2])
    _call(kernels.backward, u, u.shape[1], u, gamma, beta, stats, y_bar, u_bar, params_bar)
    gamma_bar, beta_bar = params_bar.sum(1)
    return u_bar, gamma_bar, beta_bar


def backward_first(
    x: Tensor, weight: Tensor, u: Tensor, gamma: Tensor, beta: Tensor, stats: Tensor, y_bar: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """weight_bar (C, K, 3, 3), gamma_bar (C,) and beta_bar (C,) from y_bar.

    u is the 3x3 convolution of images x (B, K, H, W). For small K this is :func:`backward` and the
    convolution's gradient in one, which saves writing u_bar to memory.
    """
    u, y_bar, inputs = channels_last(u), channels_last(y_bar), x.shape[1]
    kernels = kernels_for(u)
    if kernels is None or inputs > _MOST_FIRST:
        u_bar, gamma_bar, beta_bar = backward(u, gamma, beta, stats, y_bar)
        return weight_bar(x, u_bar, weight), gamma_bar, beta_bar
    framed = channels_last(pad(x, (1, 1, 1, 1)))
    params_bar, weight_bars = (
        u.new_empty(2, *u.shape[:2]),
        u.new_empty(len(u), 9 * inputs, u.shape[1]),
    )
    _call(
        kernels.backward_first,
        u,
        u.shape[1],
        u,
        gamma,
        beta,
        stats,
        y_bar,
        framed,
        params_bar,
        weight_bars,
        numbers=(inputs,),
    )
    gamma_bar, beta_bar = params_bar.sum(1)
    return _summed(weight_bars, inputs), gamma_bar, beta_bar


def tangent_forward(
    u_pair: Tensor, u_extra: Tensor | None, affine: Affine
) -> tuple[Tensor, Tensor, Tensor]:
    """y, y_dot and statistics for :func:`tangent_backward`.

    First adds ``u_extra`` (B, C, H, W) to u_dot, in place.
    """
    if triton := _triton_kernels(u_pair):
        return triton.tangent_forward(u_pair, u_extra, affine)
    kernels, channels = kernels_for(u_pair), u_pair.shape[1] // 2
    if kernels is None:
        u, u_dot = u_pair.chunk(2, 1)
        if u_extra is not None:
            u_dot += u_extra
        return *reference.tangent_forward(u, u_dot, affine), u_pair.new_empty(0)
    y, y_dot = _halved(u_pair, channels), _halved(u_pair, channels)
    stats = u_pair.new_empty(4, len(u_pair), channels)
    numbers = (affine.gamma, affine.beta, affine.gamma_dot, affine.beta_dot)
    _call(kernels.tangent_forward, u_pair, channels, u_pair, u_extra, *numbers, y, y_dot, stats)
    return y, y_dot, stats


def tangent_backward(
    u_pair: Tensor, affine: Affine, stats: Tensor, y_bar_pair: Tensor, y_bar_extra: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """u_bar, u_bar_dot, gamma_bar_dot (C,) and beta_bar_dot (C,).

    ``y_bar_extra`` (B, C, H/2, W/2) is a part of y_bar_dot.
    """
    if triton := _triton_kernels(u_pair):
        y_bar_extra = None if y_bar_extra is None else channels_last(y_bar_extra)
        return triton.tangent_backward(
            u_pair, affine, stats, channels_last(y_bar_pair), y_bar_extra
        )
    kernels, channels = kernels_for(u_pair), u_pair.shape[1] // 2
    if kernels is None:
        y_bar, y_bar_dot = y_bar_pair.chunk(2, 1)
        y_bar_dot = y_bar_dot if y_bar_extra is None else y_bar_dot + y_bar_extra
        u, u_dot = u_pair.chunk(2, 1)
        return reference.tangent_backward(u, u_dot, affine, y_bar, y_bar_dot)
    u_bar, u_bar_dot = (
        torch.empty_like(u_pair[:, :channels], memory_format=torch.channels_last) for _ in range(2)
    )
    params_bar_dot = u_pair.new_empty(2, len(u_pair), channels)
    numbers = (affine.gamma, affine.beta, affine.gamma_dot)
    outputs = (u_bar, u_bar_dot, params_bar_dot)
    _call(
        kernels.tangent_backward,
        u_pair,
        channels,
        u_pair,
        *numbers,
        stats,
        y_bar_pair,
        y_bar_extra,
        *outputs,
    )
    gamma_bar_dot, beta_bar_dot = params_bar_dot.sum(1)
    return u_bar, u_bar_dot, gamma_bar_dot, beta_bar_dot


def tangent_backward_first(
    x: Tensor,
    weight: Tensor,
    weight_dot: Tensor,
    u_pair: Tensor,
    affine: Affine,
    stats: Tensor,
    y_bar_pair: Tensor,
    y_bar_extra: Tensor | None,
    with_weights: bool,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """x_bar_dot (B, K, H, W), weight_bar_dot (C, K, 3, 3), gamma_bar_dot (C,), beta_bar_dot (C,).

    Without ``with_weights`` weight_bar_dot is None. u is the 3x3 convolution of images x
    (B, K, H, W) without a derivative. For small K this is :func:`tangent_backward` and the
    convolution's gradients in one, which saves writing u_bar and u_bar_dot to memory.
    """
    kernels, inputs, channels = kernels_for(u_pair), x.shape[1], u_pair.shape[1] // 2
    if kernels is None or inputs > _MOST_FIRST:
        u_bar, u_bar_dot, gamma_bar_dot, beta_bar_dot = tangent_backward(
            u_pair, affine, stats, y_bar_pair, y_bar_extra
        )
        x_bar_dot = image_bar(u_bar_dot, weight) + image_bar(u_bar, weight_dot)
        weight_bar_dot = weight_bar(x, u_bar_dot, weight) if with_weights else None
        return x_bar_dot, weight_bar_dot, gamma_bar_dot, beta_bar_dot
    framed = channels_last(pad(x, (1, 1, 1, 1)))
    params_bar_dot = u_pair.new_empty(2, len(x), channels)
    weight_bars = u_pair.new_empty(len(x), 9 * inputs, channels) if with_weights else None
    shape = (len(x), _FOLD_CHANNELS, *x.shape[2:])
    x_bar_dot = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    _call(
        kernels.tangent_backward_first,
        u_pair,
        channels,
        *(u_pair, affine.gamma, affine.beta, affine.gamma_dot, stats, y_bar_pair, y_bar_extra),
        *(framed, _columns(weight), _columns(weight_dot)),
        *(params_bar_dot, weight_bars, x_bar_dot),
        numbers=(inputs,),
    )
    gamma_bar_dot, beta_bar_dot = params_bar_dot.sum(1)
    weight_bar_dot = None if weight_bars is None else _summed(weight_bars, inputs)
    return x_bar_dot[:, :inputs], weight_bar_dot, gamma_bar_dot, beta_bar_dot


def _summed(weight_bars: Tensor, inputs: int) -> Tensor:
    """w_bar (C, K, 3, 3) from those of each image (B, 9K, C)."""
    return weight_bars.sum(0).view(3, 3, inputs, -1).permute(3, 2, 0, 1)


def _columns(weight: Tensor) -> Tensor:
    """(C, 32): the taps of each output channel, in the order of ``fold``, and zeros."""
    rows = weight.permute(0, 2, 3, 1).flatten(1)
    return pad(rows, (0, _COLUMNS - rows.shape[1])).contiguous()


def image_bar(u_bar: Tensor, weight: Tensor) -> Tensor:
    """The input gradient (B, K, H, W) of a 3x3 convolution with few input channels K.

    It is a product with the weights and a fold. A library's kernel would leave most of its vector
    lanes idle with so few channels.
    """
    kernels, channels = kernels_for(u_bar), weight.shape[1]
    if kernels is None or channels > _FOLD_CHANNELS:
        return conv_transpose2d(u_bar, weight.to(u_bar.dtype), padding=1)
    rows = pad(
        weight.permute(2, 3, 1, 0).reshape(9 * channels, -1), (0, 0, 0, _FOLD_CHANNELS - channels)
    )
    columns = channels_last(conv2d(u_bar, rows[:, :, None, None]))
    shape = (len(u_bar), _FOLD_CHANNELS, *u_bar.shape[2:])
    x_bar = torch.empty(shape, dtype=u_bar.dtype, memory_format=torch.channels_last)
    _call(kernels.fold, u_bar, channels, columns, x_bar)
    return x_bar[:, :channels]


class NormReluPool(nn.Module):
    """The operation as a layer, differentiable twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, u: Tensor) -> Tensor:
        return _Operation.apply(u, self.weight, self.bias)


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        y, stats = forward(u, gamma, beta)
        ctx.save_for_backward(u, gamma, beta, stats)
        return y

    @staticmethod
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _Gradient.apply(*ctx.saved_tensors, y_bar)


class _Gradient(torch.autograd.Function):
    """The operation's gradient. Because second derivatives are symmetric, its own gradient is its
    tangent along the incoming gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, gamma: Tensor, beta: Tensor, stats: Tensor, y_bar: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        y_bar = channels_last(y_bar)
        ctx.save_for_backward(u, gamma, beta, y_bar)
        return backward(u, gamma, beta, stats, y_bar)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, u_dot: Tensor, gamma_dot: Tensor, beta_dot: Tensor
    ) -> tuple[Tensor | None, ...]:
        u, gamma, beta, y_bar = ctx.saved_tensors
        affine = Affine(gamma, beta, gamma_dot.contiguous(), beta_dot.contiguous())
        u_pair = channels_last(torch.cat([u, u_dot], 1))
        _, y_dot, stats = tangent_forward(u_pair, None, affine)
        y_bar_pair = channels_last(torch.cat([y_bar, torch.zeros_like(y_bar)], 1))
        _, *bars = tangent_backward(u_pair, affine, stats, y_bar_pair, None)
        return bars[0], bars[1], bars[2], None, y_dot


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("n", "height", "width", "channels")] + [
        ("eps", ctypes.c_double)
    ]


def _triton_kernels(tensor: Tensor) -> ModuleType | None:
    """The Triton kernels where they fit ``tensor``: on a CUDA GPU, for even sizes."""
    even = tensor.shape[2] % 2 == 0 and tensor.shape[3] % 2 == 0
    return _load_triton() if tensor.device.type == "cuda" and even else None


@cache
def _load_triton() -> ModuleType | None:
    """The Triton kernels; None, logged once, where Triton is missing or cannot build them."""
    try:
        from ltdd_ray.nn.kernels import triton

        triton.forward(*(torch.ones(shape, device="cuda") for shape in ((1, 1, 2, 2), 1, 1)))
    except Exception as error:  # anything that its C compiler and NVIDIA's assembler raise
        log.warning(
            "Triton builds no kernels here (%s): networks fall back to slower torch operations",
            error,
        )
        return None
    return triton


def _halved(u: Tensor, channels: int) -> Tensor:
    shape = (len(u), channels, u.shape[2] // 2, u.shape[3] // 2)
    return torch.empty(shape, dtype=u.dtype, memory_format=torch.channels_last)


def _call(
    kernel: Any, u: Tensor, channels: int, *tensors: Tensor | None, numbers: tuple[int, ...] = ()
) -> None:
    """Run a C kernel on tensors with dense memory, those of four dimensions channels-last."""
    assert all(
        t is None or t.dim() < 4 or t.is_contiguous(memory_format=torch.channels_last)
        for t in tensors
    )
    shape = _Shape(len(u), u.shape[2], u.shape[3], channels, EPS)
    kernel(
        ctypes.byref(shape),
        *map(ctypes.c_int64, numbers),
        *(ctypes.c_void_p(t.data_ptr() if t is not None else None) for t in tensors),
    )
