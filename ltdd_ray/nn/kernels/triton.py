"""The operation of ``fused.py`` as Triton kernels for a GPU; letters and shapes are those there.

A program has one image and a block of channels. The four pixels of a pooling window lie in four
tiles (Q, K) of Q windows and K channels: pooling adds tiles, and statistics are sums over them.
Every sweep loads the tiles again, and gets them from cache. Kernels compute in gamma's dtype; u, y
and their bars may have half as many bits. H and W must be even.
"""
# pyright: reportGeneralTypeIssues=false
# Functions under ``triton.jit`` are in Triton's language; pyright takes their loops for endless.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltdd_ray.nn.kernels.reference import EPS, Affine

_TILE, _FEWEST_CHANNELS, _WARPS = 2048, 8, 8


def forward(u: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """y, and the statistics (2, B, C): mean and 1/sqrt(var + eps)."""
    y, stats = _halved(u, u.shape[1]), _per_image(2, u, u.shape[1], gamma)
    _launch(_forward, u, u.shape[1], u, gamma, beta, y, stats)
    return y, stats


def backward(
    u: Tensor, gamma: Tensor, beta: Tensor, stats: Tensor, y_bar: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    u_bar, sums = torch.empty_like(u), _per_image(2, u, u.shape[1], gamma)
    _launch(_backward, u, u.shape[1], u, gamma, beta, stats, y_bar, u_bar, sums)
    beta_bar, gamma_bar = sums.sum(1)
    return u_bar, gamma_bar, beta_bar


def tangent_forward(
    u_pair: Tensor, u_extra: Tensor | None, affine: Affine
) -> tuple[Tensor, Tensor, Tensor]:
    """y, y_dot, and statistics (4, B, C): :func:`forward`'s, and the means of u_dot and n u_dot."""
    channels = u_pair.shape[1] // 2
    y, y_dot = _halved(u_pair, channels), _halved(u_pair, channels)
    stats = _per_image(4, u_pair, channels, affine.gamma)
    extra = u_pair if u_extra is None else u_extra  # a pointer that the kernel does not read
    numbers = (affine.gamma, affine.beta, affine.gamma_dot, affine.beta_dot)
    _launch(
        _tangent_forward,
        u_pair,
        channels,
        u_pair,
        extra,
        *numbers,
        y,
        y_dot,
        stats,
        EXTRA=u_extra is not None,
    )
    return y, y_dot, stats


def tangent_backward(
    u_pair: Tensor, affine: Affine, stats: Tensor, y_bar_pair: Tensor, y_bar_extra: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    channels = u_pair.shape[1] // 2
    u_bar, u_bar_dot = (
        torch.empty_like(u_pair[:, :channels], memory_format=torch.channels_last) for _ in range(2)
    )
    sums = _per_image(2, u_pair, channels, affine.gamma)
    extra = y_bar_pair if y_bar_extra is None else y_bar_extra
    given = (u_pair, affine.gamma, affine.beta, affine.gamma_dot, stats, y_bar_pair, extra)
    _launch(
        _tangent_backward,
        u_pair,
        channels,
        *given,
        u_bar,
        u_bar_dot,
        sums,
        EXTRA=y_bar_extra is not None,
    )
    beta_bar_dot, gamma_bar_dot = sums.sum(1)
    return u_bar, u_bar_dot, gamma_bar_dot, beta_bar_dot


def _halved(u: Tensor, channels: int) -> Tensor:
    shape = (len(u), channels, u.shape[2] // 2, u.shape[3] // 2)
    return torch.empty(shape, dtype=u.dtype, device=u.device, memory_format=torch.channels_last)


def _per_image(count: int, u: Tensor, channels: int, like: Tensor) -> Tensor:
    return like.new_empty(count, len(u), channels)


def _launch(kernel: Any, u: Tensor, channels: int, *tensors: Tensor, **constants: bool) -> None:
    assert all(t.dim() < 4 or t.is_contiguous(memory_format=torch.channels_last) for t in tensors)
    windows = triton.next_power_of_2((u.shape[2] // 2) * (u.shape[3] // 2))
    block = max(_FEWEST_CHANNELS, min(triton.next_power_of_2(channels), _TILE // windows))
    # Blocks of one image share lines of memory: they are neighbours in the grid, to run together.
    grid = triton.cdiv(channels, block), len(u)
    kernel[grid](
        *tensors,
        len(u),
        u.shape[2] // 2,
        u.shape[3] // 2,
        channels,
        EPS,
        Q=windows,
        K=block,
        num_warps=_WARPS,
        **constants,
    )


@triton.jit
def _place(height, width, channels, Q: tl.constexpr, K: tl.constexpr):
    """This program's image and channels (K,), and masks: channels (K,), windows (Q, K)."""
    channel = tl.program_id(0) * K + tl.arange(0, K)
    window = tl.arange(0, Q)
    exists = channel < channels
    return (
        tl.program_id(1).to(tl.int64),
        channel,
        exists,
        (window < height * width)[:, None] & exists[None, :],
    )


@triton.jit
def _pooled(height, width, row, image, channel, Q: tl.constexpr):
    """Offsets (Q, K) of the windows in y, which has ``row`` channels."""
    return (image * height * width + tl.arange(0, Q))[:, None] * row + channel[None, :]


@triton.jit
def _pixels(w: tl.constexpr, height, width, row, image, channel, Q: tl.constexpr):
    """Offsets (Q, K) in u, which has ``row`` channels, of pixel ``w`` of each window."""
    window = tl.arange(0, Q)
    y, x = 2 * (window // width) + w // 2, 2 * (window % width) + w % 2
    return ((image * 2 * height + y) * 2 * width + x)[:, None] * row + channel[None, :]


@triton.jit
def _forward(
    u, gamma, beta, y, stats, images, height, width, channels, eps, Q: tl.constexpr, K: tl.constexpr
):
    image, channel, exists, inside = _place(height, width, channels, Q, K)
    g, b = tl.load(gamma + channel, exists, 0.0), tl.load(beta + channel, exists, 0.0)
    count = 4 * height * width
    mean, variance = tl.zeros_like(g), tl.zeros_like(g)
    for w in tl.static_range(4):
        mean += tl.sum(
            tl.load(u + _pixels(w, height, width, channels, image, channel, Q), inside, 0.0).to(
                g.dtype
            ),
            0,
        )
    mean /= count
    for w in tl.static_range(4):
        value = tl.load(u + _pixels(w, height, width, channels, image, channel, Q), inside, 0.0).to(
            g.dtype
        )
        centred = tl.where(inside, value - mean[None, :], 0.0)
        variance += tl.sum(centred * centred, 0)
    r = 1 / tl.sqrt(variance / count + eps)
    total = tl.zeros((Q, K), g.dtype)
    for w in tl.static_range(4):
        value = tl.load(u + _pixels(w, height, width, channels, image, channel, Q), inside, 0.0).to(
            g.dtype
        )
        total += tl.maximum((value - mean[None, :]) * (r * g)[None, :] + b[None, :], 0.0)
    tl.store(y + _pooled(height, width, channels, image, channel, Q), total / 4, inside)
    at = image * channels + channel
    tl.store(stats + at, mean, exists)
    tl.store(stats + images * channels + at, r, exists)


@triton.jit
def _backward(
    u,
    gamma,
    beta,
    stats,
    y_bar,
    u_bar,
    sums,
    images,
    height,
    width,
    channels,
    eps,
    Q: tl.constexpr,
    K: tl.constexpr,
):
    image, channel, exists, inside = _place(height, width, channels, Q, K)
    g, b = tl.load(gamma + channel, exists, 0.0), tl.load(beta + channel, exists, 0.0)
    at = image * channels + channel
    mean, r = tl.load(stats + at, exists, 0.0), tl.load(stats + images * channels + at, exists, 0.0)
    given = (
        tl.load(y_bar + _pooled(height, width, channels, image, channel, Q), inside, 0.0).to(
            g.dtype
        )
        / 4
    )
    beta_bar, gamma_bar = tl.zeros_like(g), tl.zeros_like(g)
    for w in tl.static_range(4):
        value = tl.load(u + _pixels(w, height, width, channels, image, channel, Q), inside, 0.0).to(
            g.dtype
        )
        n = (value - mean[None, :]) * r[None, :]
        a_bar = tl.where(g[None, :] * n + b[None, :] > 0, given, 0.0)
        beta_bar += tl.sum(a_bar, 0)
        gamma_bar += tl.sum(a_bar * n, 0)
    tl.store(sums + at, beta_bar, exists)
    tl.store(sums + images * channels + at, gamma_bar, exists)
    count = 4 * height * width
    for w in tl.static_range(4):
        places = _pixels(w, height, width, channels, image, channel, Q)
        value = tl.load(u + places, inside, 0.0).to(g.dtype)
        n = (value - mean[None, :]) * r[None, :]
        a_bar = tl.where(g[None, :] * n + b[None, :] > 0, given, 0.0)
        tl.store(
            u_bar + places,
            (r * g)[None, :]
            * (a_bar - (beta_bar / count)[None, :] - n * (gamma_bar / count)[None, :]),
            inside,
        )


@triton.jit
def _tangent_forward(
    u_pair, u_extra, gamma, beta, gamma_dot, beta_dot, y, y_dot, stats,
    images, height, width, channels, eps,
    Q: tl.constexpr, K: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    image, channel, exists, inside = _place(height, width, channels, Q, K)
    g, b = tl.load(gamma + channel, exists, 0.0), tl.load(beta + channel, exists, 0.0)
    g_dot, b_dot = (
        tl.load(gamma_dot + channel, exists, 0.0),
        tl.load(beta_dot + channel, exists, 0.0),
    )
    count = 4 * height * width
    mean, mean_dot, variance, n_u_dot = (
        tl.zeros_like(g),
        tl.zeros_like(g),
        tl.zeros_like(g),
        tl.zeros_like(g),
    )
    for w in tl.static_range(4):
        places = _pixels(w, height, width, 2 * channels, image, channel, Q)
        mean += tl.sum(tl.load(u_pair + places, inside, 0.0).to(g.dtype), 0)
        value_dot = tl.load(u_pair + channels + places, inside, 0.0).to(g.dtype)
        if EXTRA:
            value_dot += tl.load(
                u_extra + _pixels(w, height, width, channels, image, channel, Q), inside, 0.0
            ).to(g.dtype)
            tl.store(u_pair + channels + places, value_dot, inside)
        mean_dot += tl.sum(value_dot, 0)
    tl.debug_barrier()  # another thread may read what was stored
    mean, mean_dot = mean / count, mean_dot / count
    for w in tl.static_range(4):
        places = _pixels(w, height, width, 2 * channels, image, channel, Q)
        centred = tl.where(
            inside, tl.load(u_pair + places, inside, 0.0).to(g.dtype) - mean[None, :], 0.0
        )
        variance += tl.sum(centred * centred, 0)
        n_u_dot += tl.sum(centred * tl.load(u_pair + channels + places, inside, 0.0).to(g.dtype), 0)
    r = 1 / tl.sqrt(variance / count + eps)
    n_u_dot = n_u_dot * r / count
    total, total_dot = tl.zeros((Q, K), g.dtype), tl.zeros((Q, K), g.dtype)
    for w in tl.static_range(4):
        places = _pixels(w, height, width, 2 * channels, image, channel, Q)
        n = (tl.load(u_pair + places, inside, 0.0).to(g.dtype) - mean[None, :]) * r[None, :]
        value_dot = tl.load(u_pair + channels + places, inside, 0.0).to(g.dtype)
        n_dot = r[None, :] * (value_dot - mean_dot[None, :] - n * n_u_dot[None, :])
        a = g[None, :] * n + b[None, :]
        total += tl.maximum(a, 0.0)
        total_dot += tl.where(a > 0, g[None, :] * n_dot + g_dot[None, :] * n + b_dot[None, :], 0.0)
    tl.store(y + _pooled(height, width, channels, image, channel, Q), total / 4, inside)
    tl.store(y_dot + _pooled(height, width, channels, image, channel, Q), total_dot / 4, inside)
    at, step = image * channels + channel, images * channels
    tl.store(stats + at, mean, exists)
    tl.store(stats + step + at, r, exists)
    tl.store(stats + 2 * step + at, mean_dot, exists)
    tl.store(stats + 3 * step + at, n_u_dot, exists)


@triton.jit
def _tangent_backward(
    u_pair, gamma, beta, gamma_dot, stats, y_bar_pair, y_bar_extra, u_bar, u_bar_dot, sums,
    images, height, width, channels, eps,
    Q: tl.constexpr, K: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    image, channel, exists, inside = _place(height, width, channels, Q, K)
    g, b = tl.load(gamma + channel, exists, 0.0), tl.load(beta + channel, exists, 0.0)
    g_dot = tl.load(gamma_dot + channel, exists, 0.0)
    at, step = image * channels + channel, images * channels
    mean, r = tl.load(stats + at, exists, 0.0), tl.load(stats + step + at, exists, 0.0)
    mean_dot, n_u_dot = (
        tl.load(stats + 2 * step + at, exists, 0.0),
        tl.load(stats + 3 * step + at, exists, 0.0),
    )
    pooled = _pooled(height, width, 2 * channels, image, channel, Q)
    given = tl.load(y_bar_pair + pooled, inside, 0.0).to(g.dtype) / 4
    given_dot = tl.load(y_bar_pair + channels + pooled, inside, 0.0).to(g.dtype) / 4
    if EXTRA:
        given_dot += (
            tl.load(
                y_bar_extra + _pooled(height, width, channels, image, channel, Q), inside, 0.0
            ).to(g.dtype)
            / 4
        )
    # Sums of a_bar, a_bar n, a_bar n_dot, a_bar_dot and a_bar_dot n. All means of the second sweep
    # follow from them.
    alone, with_n, with_n_dot = tl.zeros_like(g), tl.zeros_like(g), tl.zeros_like(g)
    dot, dot_with_n = tl.zeros_like(g), tl.zeros_like(g)
    for w in tl.static_range(4):
        places = _pixels(w, height, width, 2 * channels, image, channel, Q)
        n = (tl.load(u_pair + places, inside, 0.0).to(g.dtype) - mean[None, :]) * r[None, :]
        value_dot = tl.load(u_pair + channels + places, inside, 0.0).to(g.dtype)
        n_dot = r[None, :] * (value_dot - mean_dot[None, :] - n * n_u_dot[None, :])
        passes = g[None, :] * n + b[None, :] > 0
        a_bar, a_bar_dot = tl.where(passes, given, 0.0), tl.where(passes, given_dot, 0.0)
        alone += tl.sum(a_bar, 0)
        with_n += tl.sum(a_bar * n, 0)
        with_n_dot += tl.sum(a_bar * n_dot, 0)
        dot += tl.sum(a_bar_dot, 0)
        dot_with_n += tl.sum(a_bar_dot * n, 0)
    tl.store(sums + at, dot, exists)
    tl.store(sums + step + at, dot_with_n + with_n_dot, exists)
    count = 4 * height * width
    n_bar_mean, m = g * alone / count, g * with_n / count
    n_bar_dot_mean = (g * dot + g_dot * alone) / count
    m_dot = (g * (dot_with_n + with_n_dot) + g_dot * with_n) / count
    for w in tl.static_range(4):
        places = _pixels(w, height, width, 2 * channels, image, channel, Q)
        n = (tl.load(u_pair + places, inside, 0.0).to(g.dtype) - mean[None, :]) * r[None, :]
        value_dot = tl.load(u_pair + channels + places, inside, 0.0).to(g.dtype)
        n_dot = r[None, :] * (value_dot - mean_dot[None, :] - n * n_u_dot[None, :])
        passes = g[None, :] * n + b[None, :] > 0
        a_bar, a_bar_dot = tl.where(passes, given, 0.0), tl.where(passes, given_dot, 0.0)
        bar = r[None, :] * (g[None, :] * a_bar - n_bar_mean[None, :] - n * m[None, :])
        n_bar_dot = g[None, :] * a_bar_dot + g_dot[None, :] * a_bar
        rest = n_bar_dot - n_bar_dot_mean[None, :] - n_dot * m[None, :] - n * m_dot[None, :]
        single = _pixels(w, height, width, channels, image, channel, Q)
        tl.store(u_bar + single, bar, inside)
        tl.store(u_bar_dot + single, r[None, :] * (rest - n_u_dot[None, :] * bar), inside)
