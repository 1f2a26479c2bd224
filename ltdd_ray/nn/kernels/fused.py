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

from ltdd_ray.nn.kernels import reference
from ltdd_ray.nn.kernels.build import kernels_for
from ltdd_ray.nn.kernels.convolution import channels_last
from ltdd_ray.nn.kernels.reference import EPS, Affine

log = logging.getLogger(__name__)


def forward(u: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """y, and statistics for :func:`backward`: (2, B, C), or empty where it needs none.

    Raises ``RuntimeError`` if u is smaller than 2 x 2 pixels.
    """
    refuse_small(u)
    u = channels_last(u)
    if triton := _triton_kernels(u):
        return triton.forward(u, gamma, beta)
    kernels = kernels_for(u)
    if kernels is None:
        return reference.forward(u, gamma, beta), u.new_empty(0)
    y, stats = halved(u, u.shape[1]), u.new_empty(2, *u.shape[:2])
    call(kernels.forward, u, u.shape[1], u, gamma, beta, y, stats)
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
    call(kernels.backward, u, u.shape[1], u, gamma, beta, stats, y_bar, u_bar, params_bar)
    gamma_bar, beta_bar = params_bar.sum(1)
    return u_bar, gamma_bar, beta_bar


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
    y, y_dot = halved(u_pair, channels), halved(u_pair, channels)
    stats = u_pair.new_empty(4, len(u_pair), channels)
    numbers = (affine.gamma, affine.beta, affine.gamma_dot, affine.beta_dot)
    call(kernels.tangent_forward, u_pair, channels, u_pair, u_extra, *numbers, y, y_dot, stats)
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
    call(
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


class NormReluPool(nn.Module):
    """The operation as a layer, differentiable twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, u: Tensor) -> Tensor:
        return norm_relu_pool(u, self.weight, self.bias)[0]


def norm_relu_pool(u: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """y, differentiable twice, and the statistics of :func:`forward`."""
    return _Operation.apply(u, gamma, beta)


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        y, stats = forward(u, gamma, beta)
        ctx.save_for_backward(u, gamma, beta, stats)
        ctx.mark_non_differentiable(stats)
        return y, stats

    @staticmethod
    def backward(ctx: Any, y_bar: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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


def refuse_small(u: Tensor) -> None:
    """Raise ``RuntimeError`` where pooling would leave no pixel."""
    if min(u.shape[2:]) < 2:
        raise RuntimeError(f"2x2 pooling of {u.shape[2]}x{u.shape[3]} pixels leaves nothing")


def halved(u: Tensor, channels: int) -> Tensor:
    """Room for y of ``channels``."""
    shape = (len(u), channels, u.shape[2] // 2, u.shape[3] // 2)
    return torch.empty(shape, dtype=u.dtype, memory_format=torch.channels_last)


def call(
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
