"""The floor of an exact representation phase: its convolutions, each kernel timed alone.

A pass is one product of a layer's size: forward (u from x and w), input gradient (x_bar from u_bar
and w) or weight gradient (w_bar from u_bar and x). Letters are those of
``ltdd_ray/nn/kernels/convolution.py``. The first layer's passes are timed with the norm, ReLU and
pooling behind them, because ``ltdd_ray/nn/kernels/first.py`` has no kernel without.
"""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from ltdd_ray.bench.sizes import Sizes
from ltdd_ray.bench.timing import seconds
from ltdd_ray.common.device import default_device
from ltdd_ray.nn.kernels import convolution as kernels
from ltdd_ray.nn.kernels import first
from ltdd_ray.nn.kernels.reference import Affine

REPEATS = 5

# How often an inner step and the backward step over it call each kernel of one layer. The backward
# step differentiates the step's passes: forward w*x and its derivative w_dot*x + w*x_dot, 3 passes
# in one call; the input gradient likewise; of the weight gradient only the derivative, u_bar with
# x_dot and u_bar_dot with x, 2 passes in one call. That is 11 passes.
OTHER_LAYERS = {
    "convolution": 1,
    "convolution_pair": 1,
    "input_bar": 1,
    "input_bar_pair": 1,
    "weight_bar": 1,
    "weight_bar_dot": 1,
}
# The images do not depend on theta: the first layer has no x_dot, and only the derivative of its
# input gradient is needed. That is 7 passes: 1, 1, 2 and 3.
FIRST_LAYER = {"forward": 1, "backward": 1, "tangent_forward": 1, "tangent_backward": 1}


class Floor:
    """Every layer's kernels, each on tensors of its own."""

    def __init__(self, sizes: Sizes) -> None:
        self._layers = [_layer(sizes, block) for block in range(sizes.depth)]
        self._steps = sizes.steps

    def seconds(self) -> float:
        """Sum of the kernels' median times over steps, layers and calls."""
        return self._steps * sum(
            calls * _median_seconds(kernel) for layer in self._layers for calls, kernel in layer
        )


def _layer(sizes: Sizes, block: int) -> list[tuple[int, Callable[[], object]]]:
    inputs, size = sizes.width if block else sizes.image_shape[0], sizes.image_size // 2**block
    x = _ones(sizes.images, inputs, size, size)
    w = torch.ones(sizes.width, inputs, 3, 3, device=default_device())
    works = _others(x, w) if block else _first(x, w)
    return [
        (calls, works[name]) for name, calls in (OTHER_LAYERS if block else FIRST_LAYER).items()
    ]


def _others(x: Tensor, w: Tensor) -> dict[str, Callable[[], object]]:
    u = _ones(len(x), len(w), *x.shape[2:])
    return {
        "convolution": lambda: kernels.convolution(x, w),
        "convolution_pair": lambda: kernels.convolution_pair(x, x, w, w),
        "input_bar": lambda: kernels.input_bar(u, w),
        "input_bar_pair": lambda: kernels.input_bar_pair(u, u, w, w),
        "weight_bar": lambda: kernels.weight_bar(x, u, w),
        "weight_bar_dot": lambda: kernels.weight_bar_dot(x, x, u, u, w),
    }


@torch.no_grad()
def _first(x: Tensor, w: Tensor) -> dict[str, Callable[[], object]]:
    ones = torch.ones(len(w), device=x.device)
    affine = Affine(ones, ones, ones, ones)
    y, u, stats = first.forward(x, w, ones, ones)
    *_, pair, pair_stats = first.tangent_forward(x, w, w, affine)
    y_pair = torch.ones_like(y).repeat(1, 2, 1, 1).contiguous(memory_format=torch.channels_last)
    return {
        "forward": lambda: first.forward(x, w, ones, ones),
        "backward": lambda: first.backward(x, w, u, ones, ones, stats, y),
        "tangent_forward": lambda: first.tangent_forward(x, w, w, affine),
        "tangent_backward": lambda: first.tangent_backward(
            x, w, w, pair, affine, pair_stats, y_pair, None, True
        ),
    }


def _ones(*shape: int) -> Tensor:
    ones = torch.ones(shape, device=default_device())
    return ones.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _median_seconds(kernel: Callable[[], object]) -> float:
    kernel()
    return median(seconds(kernel) for _ in range(REPEATS))
