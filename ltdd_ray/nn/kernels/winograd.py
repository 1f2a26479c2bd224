"""3x3 convolutions of many channels by Winograd's F(4x4, 3x3), the kernels of ``winograd.c``.

They need a quarter of the multiplications, and on a CPU about half of torch's time. They round more
coarsely than torch; ``docs/performance.md`` has both numbers and their effect.

B batch, K channels in, C channels out, H x W size; x (B, K, H, W), y (B, C, H, W), taps
(3, 3, K, C).
"""

import ctypes

import torch
from torch import Tensor

from ltdd_ray.nn.kernels.build import kernels_for

_CHANNELS, _TILE = 32, 4  # as in winograd.c; channels are multiples of 32
# With fewer tiles the transform of the weights costs more than the kernels save, and of many
# channels the weights are larger. So does computing tiles that have fewer than 9 of their 16 pixels
# inside the image.
_FEWEST_TILES, _FEWEST_TILES_NARROW, _NARROW, _FEWEST_PIXELS = 64, 40, 64, 9
_PIECES = 8  # pieces of the batch, with a weight gradient each


def suits(x: Tensor, channels_out: int) -> bool:
    """Whether there are kernels for a convolution of x (B, K, H, W), faster than torch's."""
    batch, channels_in, height, width = x.shape
    tiles = batch * -(-height // _TILE) * -(-width // _TILE)
    wide = channels_in % _CHANNELS == 0 and channels_out % _CHANNELS == 0
    narrow = channels_in + channels_out <= 2 * _NARROW
    fewest = _FEWEST_TILES_NARROW if narrow else _FEWEST_TILES
    enough = tiles >= fewest and batch * height * width >= _FEWEST_PIXELS * tiles
    return wide and enough and kernels_for(x) is not None


def convolve(x: Tensor, taps: Tensor) -> Tensor:
    """y = taps * x."""
    y = _like(x, taps.shape[3])
    _call("convolve", x, taps.shape[3], _pixels(x), None, _dense(taps), None, _pixels(y))
    return y


def convolve_pair(x: Tensor, x_dot: Tensor | None, taps: Tensor, taps_dot: Tensor) -> Tensor:
    """(B, 2C, H, W): y = taps * x, and y_dot = taps_dot * x + taps * x_dot beside it.

    Without ``x_dot`` the dot of x is zero.
    """
    y_pair = _like(x, 2 * taps.shape[3])
    dot = None if x_dot is None else _pixels(x_dot)
    weights = _dense(taps), _dense(taps_dot)
    _call("convolve", x, taps.shape[3], _pixels(x), dot, *weights, _pixels(y_pair))
    return y_pair


def taps_bar(x: Tensor, y_bar: Tensor, *more: Tensor) -> Tensor:
    """The gradient (3, 3, K, C) over taps, from that over y; with ``more``, of another x and y_bar,
    the sum of both.
    """
    bars = x.new_empty(_PIECES, 3, 3, x.shape[1], y_bar.shape[1])
    pairs = [_pixels(tensor) for tensor in (x, y_bar, *more)] + [None] * (2 - len(more))
    _call("taps_gradient", x, y_bar.shape[1], ctypes.c_int64(_PIECES), *pairs, _dense(bars))
    return bars.sum(0)


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("n", "height", "width", "inputs", "outputs")]


def _like(x: Tensor, channels: int) -> Tensor:
    shape = (len(x), channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)


def _pixels(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    return ctypes.c_void_p(tensor.data_ptr())


def _dense(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def _call(
    name: str, x: Tensor, channels_out: int, *arguments: ctypes.c_void_p | ctypes.c_int64 | None
) -> None:
    shape = _Shape(len(x), x.shape[2], x.shape[3], x.shape[1], channels_out)
    getattr(kernels_for(x), name)(ctypes.byref(shape), *arguments)
