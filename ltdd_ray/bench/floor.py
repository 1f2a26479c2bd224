"""The floor of an exact representation phase: its convolution passes, each kernel timed alone.

B batch. A layer's pass is one of three products of the same size: forward (y from x and w), input gradient (from dy and w) and
weight gradient (from dy and x).
"""

from dataclasses import dataclass
from statistics import median

import torch

from ltdd_ray.bench.sizes import Sizes
from ltdd_ray.bench.timing import seconds
from ltdd_ray.device import default_device

REPEATS = 5


@dataclass(frozen=True)
class Passes:
    """How often one layer runs each kernel."""

    forward: int
    input_gradient: int
    weight_gradient: int


# An inner step runs a layer forward, then takes both gradients. The walk back differentiates those gradients along the adjoint v:
# - forward: y = w*x and its derivative along v, v*x + w*x', which are 3;
# - input gradient: dx = w^T dy and its derivative, v^T dy + w^T dy', which are 3;
# - weight gradient: the derivative alone, dy with x' and dy' with x, which are 2.
# Images do not move with theta: the first layer has no x', and needs no dx of its own but only its derivative.
FIRST_LAYER = Passes(forward=1 + 2, input_gradient=0 + 2, weight_gradient=1 + 1)
OTHER_LAYERS = Passes(forward=1 + 3, input_gradient=1 + 3, weight_gradient=1 + 2)


class Floor:
    """The kernels of every layer on their own tensors, channels-last."""

    def __init__(self, sizes: Sizes) -> None:
        self._layers = [_Layer(sizes, block) for block in range(sizes.depth)]
        self._steps = sizes.steps

    def seconds(self) -> float:
        """Sum over steps, layers and passes of the kernels' median times now."""
        return self._steps * sum(layer.seconds() for layer in self._layers)


class _Layer:
    def __init__(self, sizes: Sizes, block: int) -> None:
        inputs, size = sizes.width if block else sizes.image_shape[0], sizes.image_size // 2**block
        shapes = (sizes.images, inputs, size, size), (sizes.width, inputs, 3, 3), (sizes.images, sizes.width, size, size)
        self._x, self._w, self._dy = (
            torch.ones(shape, device=default_device()).contiguous(memory_format=torch.channels_last) for shape in shapes
        )
        self._passes = OTHER_LAYERS if block else FIRST_LAYER

    def seconds(self) -> float:
        passes = self._passes
        return (
            passes.forward * _median_seconds(self._forward)
            + passes.input_gradient * _median_seconds(lambda: self._backward([True, False, False]))
            + passes.weight_gradient * _median_seconds(lambda: self._backward([False, True, False]))
        )

    def _forward(self) -> None:
        torch.ops.aten.convolution(self._x, self._w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)

    def _backward(self, wanted: list[bool]) -> None:
        geometry = [1, 1], [1, 1], [1, 1], False, [0, 0], 1
        torch.ops.aten.convolution_backward(self._dy, self._x, self._w, None, *geometry, wanted)


def _median_seconds(kernel) -> float:
    kernel()
    return median(seconds(kernel) for _ in range(REPEATS))
