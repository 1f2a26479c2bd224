"""The operation of ``fused.py`` as Triton kernels for a GPU; letters and shapes are those there.

A program has one image and a block of K channels. It goes over the pooling windows in tiles (Q, K)
of Q windows. The four pixels of a window lie in four such tiles: pooling adds tiles. Statistics are
summed element by element over all tiles, and once over the windows at the end. Every sweep loads
the tiles again, and gets them from cache. Kernels compute in gamma's dtype; u, y and their bars may
have half as many bits. H and W must be even.
"""
# pyright: reportGeneralTypeIssues=false
# Functions under ``triton.jit`` are in Triton's language; pyright takes their loops for endless.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltdd_ray.nn.kernels.reference import EPS, Affine

_TILE, _FEWEST_CHANNELS = 1024, 8
# Products may be fused with sums: Triton's default so far, which a later version changes.
OPTIONS = {"num_warps": 8, "enable_fp_fusion": True}


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
    windows, block = tile_shape(u.shape[2], u.shape[3], channels)
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
        **OPTIONS,
        **constants,
    )


def tile_shape(height: int, width: int, channels: int) -> tuple[int, int]:
    """Q and K for u of ``height`` x ``width`` pixels.

    A tile is small enough for the registers of its threads. Images of more than Q windows take
    several tiles.
    """
    windows = triton.next_power_of_2(height // 2 * (width // 2))
    block = max(_FEWEST_CHANNELS, min(triton.next_power_of_2(channels), _TILE // windows))
    return min(windows, _TILE // block), block


@triton.jit
def _place(channels, K: tl.constexpr):
    """This program's image, its channels (K,), and which of those exist (K,)."""
    channel = tl.program_id(0) * K + tl.arange(0, K)
    return tl.program_id(1).to(tl.int64), channel, channel < channels


@triton.jit
def _windows(start, height, width, exists, Q: tl.constexpr):
    """The windows (Q,) of the tile from ``start`` on, and the mask (Q, K) of the tile."""
    window = start + tl.arange(0, Q)
    return window, (window < height * width)[:, None] & exists[None, :]


@triton.jit
def _pooled(window, row, channel):
    """Offsets (Q, K) of the windows in an image of y, which has ``row`` channels."""
    return window[:, None] * row + channel[None, :]


@triton.jit
def _pixels(p: tl.constexpr, window, width, row, channel):
    """Offsets (Q, K), in an image of u with ``row`` channels, of pixel ``p`` of each window."""
    corner = 2 * (window + window // width * width)
    return (corner + 2 * width * (p // 2) + p % 2)[:, None] * row + channel[None, :]


@triton.jit
def _read(tensor, places, inside, like):
    """Values (Q, K) in the dtype of ``like``; zero outside."""
    return tl.load(tensor + places, inside, 0.0).to(like.dtype)


@triton.jit
def _tangent(u_pair, channels, places, inside, mean, r, mean_dot, n_u_dot):
    """n and n_dot (Q, K) from statistics (K,)."""
    n = (_read(u_pair, places, inside, mean) - mean[None, :]) * r[None, :]
    u_dot = _read(u_pair + channels, places, inside, mean)
    return n, r[None, :] * (u_dot - mean_dot[None, :] - n * n_u_dot[None, :])


@triton.jit
def _forward(
    u, gamma, beta, y, stats, images, height, width, channels, eps, Q: tl.constexpr, K: tl.constexpr
):
    image, channel, exists = _place(channels, K)
    windows = height * width
    count = 4 * windows
    g, b = tl.load(gamma + channel, exists, 0.0), tl.load(beta + channel, exists, 0.0)
    at = image * channels + channel
    u += image * count * channels
    y += image * windows * channels
    total = tl.zeros((Q, K), g.dtype)
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        for p in tl.static_range(4):
            total += _read(u, _pixels(p, window, width, channels, channel), inside, g)
    mean = tl.sum(total, 0) / count
    squares = tl.zeros((Q, K), g.dtype)
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        for p in tl.static_range(4):
            value = _read(u, _pixels(p, window, width, channels, channel), inside, g)
            centred = tl.where(inside, value - mean[None, :], 0.0)
            squares += centred * centred
    r = 1 / tl.sqrt(tl.sum(squares, 0) / count + eps)
    tl.store(stats + at, mean, exists)
    tl.store(stats + images * channels + at, r, exists)
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        pooled = tl.zeros((Q, K), g.dtype)
        for p in tl.static_range(4):
            value = _read(u, _pixels(p, window, width, channels, channel), inside, g)
            pooled += tl.maximum((value - mean[None, :]) * (r * g)[None, :] + b[None, :], 0.0)
        tl.store(y + _pooled(window, channels, channel), pooled / 4, inside)


@triton.jit
def _backward(
    u, gamma, beta, stats, y_bar, u_bar, sums,
    images, height, width, channels, eps,
    Q: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    image, channel, exists = _place(channels, K)
    windows = height * width
    count = 4 * windows
    g, b = tl.load(gamma + channel, exists, 0.0), tl.load(beta + channel, exists, 0.0)
    at, step = image * channels + channel, images * channels
    mean, r = tl.load(stats + at, exists, 0.0), tl.load(stats + step + at, exists, 0.0)
    u += image * count * channels
    u_bar += image * count * channels
    y_bar += image * windows * channels
    alone, with_n = tl.zeros((Q, K), g.dtype), tl.zeros((Q, K), g.dtype)
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        given = _read(y_bar, _pooled(window, channels, channel), inside, g) / 4
        for p in tl.static_range(4):
            value = _read(u, _pixels(p, window, width, channels, channel), inside, g)
            n = (value - mean[None, :]) * r[None, :]
            a_bar = tl.where(g[None, :] * n + b[None, :] > 0, given, 0.0)
            alone += a_bar
            with_n += a_bar * n
    beta_bar, gamma_bar = tl.sum(alone, 0), tl.sum(with_n, 0)
    tl.store(sums + at, beta_bar, exists)
    tl.store(sums + step + at, gamma_bar, exists)
    a_bar_mean, m = beta_bar / count, gamma_bar / count
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        given = _read(y_bar, _pooled(window, channels, channel), inside, g) / 4
        for p in tl.static_range(4):
            places = _pixels(p, window, width, channels, channel)
            n = (_read(u, places, inside, g) - mean[None, :]) * r[None, :]
            a_bar = tl.where(g[None, :] * n + b[None, :] > 0, given, 0.0)
            bar = (r * g)[None, :] * (a_bar - a_bar_mean[None, :] - n * m[None, :])
            tl.store(u_bar + places, bar, inside)


@triton.jit
def _tangent_forward(
    u_pair, u_extra, gamma, beta, gamma_dot, beta_dot, y, y_dot, stats,
    images, height, width, channels, eps,
    Q: tl.constexpr, K: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    image, channel, exists = _place(channels, K)
    windows = height * width
    count = 4 * windows
    g, b = tl.load(gamma + channel, exists, 0.0), tl.load(beta + channel, exists, 0.0)
    g_dot = tl.load(gamma_dot + channel, exists, 0.0)
    b_dot = tl.load(beta_dot + channel, exists, 0.0)
    at, step = image * channels + channel, images * channels
    u_pair += image * count * 2 * channels
    u_extra += image * count * channels
    y += image * windows * channels
    y_dot += image * windows * channels
    total, total_dot = tl.zeros((Q, K), g.dtype), tl.zeros((Q, K), g.dtype)
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        for p in tl.static_range(4):
            places = _pixels(p, window, width, 2 * channels, channel)
            total += _read(u_pair, places, inside, g)
            u_dot = _read(u_pair + channels, places, inside, g)
            if EXTRA:
                u_dot += _read(u_extra, _pixels(p, window, width, channels, channel), inside, g)
                tl.store(u_pair + channels + places, u_dot, inside)
            total_dot += u_dot
    tl.debug_barrier()  # another thread may read what was stored
    mean, mean_dot = tl.sum(total, 0) / count, tl.sum(total_dot, 0) / count
    squares, products = tl.zeros((Q, K), g.dtype), tl.zeros((Q, K), g.dtype)
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        for p in tl.static_range(4):
            places = _pixels(p, window, width, 2 * channels, channel)
            value = _read(u_pair, places, inside, g)
            centred = tl.where(inside, value - mean[None, :], 0.0)
            squares += centred * centred
            products += centred * _read(u_pair + channels, places, inside, g)
    r = 1 / tl.sqrt(tl.sum(squares, 0) / count + eps)
    n_u_dot = tl.sum(products, 0) * r / count
    tl.store(stats + at, mean, exists)
    tl.store(stats + step + at, r, exists)
    tl.store(stats + 2 * step + at, mean_dot, exists)
    tl.store(stats + 3 * step + at, n_u_dot, exists)
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        pooled, pooled_dot = tl.zeros((Q, K), g.dtype), tl.zeros((Q, K), g.dtype)
        for p in tl.static_range(4):
            places = _pixels(p, window, width, 2 * channels, channel)
            n, n_dot = _tangent(u_pair, channels, places, inside, mean, r, mean_dot, n_u_dot)
            a = g[None, :] * n + b[None, :]
            a_dot = g[None, :] * n_dot + g_dot[None, :] * n + b_dot[None, :]
            pooled += tl.maximum(a, 0.0)
            pooled_dot += tl.where(a > 0, a_dot, 0.0)
        tl.store(y + _pooled(window, channels, channel), pooled / 4, inside)
        tl.store(y_dot + _pooled(window, channels, channel), pooled_dot / 4, inside)


@triton.jit
def _tangent_backward(
    u_pair, gamma, beta, gamma_dot, stats, y_bar_pair, y_bar_extra, u_bar, u_bar_dot, sums,
    images, height, width, channels, eps,
    Q: tl.constexpr, K: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    image, channel, exists = _place(channels, K)
    windows = height * width
    count = 4 * windows
    g, b = tl.load(gamma + channel, exists, 0.0), tl.load(beta + channel, exists, 0.0)
    g_dot = tl.load(gamma_dot + channel, exists, 0.0)
    at, step = image * channels + channel, images * channels
    mean, r = tl.load(stats + at, exists, 0.0), tl.load(stats + step + at, exists, 0.0)
    mean_dot = tl.load(stats + 2 * step + at, exists, 0.0)
    n_u_dot = tl.load(stats + 3 * step + at, exists, 0.0)
    u_pair += image * count * 2 * channels
    u_bar += image * count * channels
    u_bar_dot += image * count * channels
    y_bar_pair += image * windows * 2 * channels
    y_bar_extra += image * windows * channels
    # Sums of a_bar, a_bar n, a_bar_dot, and of a_bar_dot n and a_bar n_dot. All means of the second
    # sweep follow from them.
    alone, with_n = tl.zeros((Q, K), g.dtype), tl.zeros((Q, K), g.dtype)
    dot, dot_with_n = tl.zeros((Q, K), g.dtype), tl.zeros((Q, K), g.dtype)
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        given, given_dot = _given(
            y_bar_pair, y_bar_extra, window, channels, channel, inside, g, EXTRA
        )
        for p in tl.static_range(4):
            places = _pixels(p, window, width, 2 * channels, channel)
            n, n_dot = _tangent(u_pair, channels, places, inside, mean, r, mean_dot, n_u_dot)
            passes = g[None, :] * n + b[None, :] > 0
            a_bar, a_bar_dot = tl.where(passes, given, 0.0), tl.where(passes, given_dot, 0.0)
            alone += a_bar
            with_n += a_bar * n
            dot += a_bar_dot
            dot_with_n += a_bar_dot * n + a_bar * n_dot
    a_bar_sum, gamma_bar = tl.sum(alone, 0), tl.sum(with_n, 0)
    beta_bar_dot, gamma_bar_dot = tl.sum(dot, 0), tl.sum(dot_with_n, 0)
    tl.store(sums + at, beta_bar_dot, exists)
    tl.store(sums + step + at, gamma_bar_dot, exists)
    n_bar_mean, m = g * a_bar_sum / count, g * gamma_bar / count
    n_bar_dot_mean = (g * beta_bar_dot + g_dot * a_bar_sum) / count
    m_dot = (g * gamma_bar_dot + g_dot * gamma_bar) / count
    for start in range(0, windows, Q):
        window, inside = _windows(start, height, width, exists, Q)
        given, given_dot = _given(
            y_bar_pair, y_bar_extra, window, channels, channel, inside, g, EXTRA
        )
        for p in tl.static_range(4):
            places = _pixels(p, window, width, 2 * channels, channel)
            n, n_dot = _tangent(u_pair, channels, places, inside, mean, r, mean_dot, n_u_dot)
            passes = g[None, :] * n + b[None, :] > 0
            a_bar, a_bar_dot = tl.where(passes, given, 0.0), tl.where(passes, given_dot, 0.0)
            bar = r[None, :] * (g[None, :] * a_bar - n_bar_mean[None, :] - n * m[None, :])
            n_bar_dot = g[None, :] * a_bar_dot + g_dot[None, :] * a_bar
            rest = n_bar_dot - n_bar_dot_mean[None, :] - n_dot * m[None, :] - n * m_dot[None, :]
            single = _pixels(p, window, width, channels, channel)
            tl.store(u_bar + single, bar, inside)
            tl.store(u_bar_dot + single, r[None, :] * (rest - n_u_dot[None, :] * bar), inside)


@triton.jit
def _given(y_bar_pair, y_bar_extra, window, channels, channel, inside, like, EXTRA: tl.constexpr):
    """A quarter of y_bar and of y_bar_dot (Q, K): what each pixel of a window gets."""
    pooled = _pooled(window, 2 * channels, channel)
    bar = _read(y_bar_pair, pooled, inside, like)
    bar_dot = _read(y_bar_pair + channels, pooled, inside, like)
    if EXTRA:
        bar_dot += _read(y_bar_extra, _pooled(window, channels, channel), inside, like)
    return bar / 4, bar_dot / 4
