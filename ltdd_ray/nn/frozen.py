"""A ConvNet whose backbone does not move: the passes of its classifier theta_c (Pc,), the inner problem of the classifier phase.

Images enter through their features alone, so a step needs one pass forward, and one back to the images for its derivative. The way
back starts from each layer's convolution u, which ``gradient`` keeps for ``along`` within ``TAPE_BYTES``; the first layer's,
the largest and the cheapest, is always computed anew. Letters and shapes are those of ``convnet.py``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltdd_ray.common.device import without_autocast
from ltdd_ray.nn.convnet_passes import Layer, Views
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.kernels import fused
from ltdd_ray.nn.kernels.convolution import channels_last, convolution, convolution_dtype, input_bar
from ltdd_ray.nn.passes import Loss, Passes

TAPE_BYTES = 2**30


@dataclass(frozen=True)
class _Tape:
    """Of each layer u (B, C, H, W), but not of the first, and its statistics; the last layer's y (B, C, H', W')."""

    us: list[Tensor]
    stats: list[Tensor]
    y: Tensor

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in [*self.us, *self.stats, self.y])


class FrozenConvNetPasses(Passes):
    """Call ``along`` for the batches of ``gradient`` in reverse order: it takes back what the other kept."""

    def __init__(self, flat: FlatModel, start: Tensor, loss: Loss, micro_batch: int | None) -> None:
        """``start`` (P,) holds the backbone."""
        super().__init__(
            lambda theta_c, images: flat.head(theta_c, flat.features(start, images)),
            loss,
            micro_batch,
        )
        self._flat, self._layers, self._dtype = (
            flat,
            Views.of(flat, start).layers,
            convolution_dtype(start),
        )
        self._tapes: list[_Tape | None] = []
        self._left = TAPE_BYTES if micro_batch is None else 0

    @torch.no_grad()
    @without_autocast
    def gradient(self, theta: Tensor, images: Tensor, soft_label: Tensor) -> Tensor:
        theta_bar = torch.zeros_like(theta)
        (head, head_bias), (head_bar, head_bias_bar) = (
            self._flat.head_parameters(theta),
            self._flat.head_parameters(theta_bar),
        )
        for x, p, share in self.chunks(channels_last(images.to(self._dtype)), soft_label):
            tape = self._forward(x)
            features = tape.y.flatten(1).to(theta.dtype)
            z_bar = self.loss_bar(linear(features, head, head_bias), p, share)
            head_bar.addmm_(z_bar.T, features)
            head_bias_bar.add_(z_bar.sum(0))
            self._keep(tape)
        return theta_bar

    @torch.no_grad()
    @without_autocast
    def hvp(
        self, theta: Tensor, v: Tensor, images: Tensor, soft_label: Tensor, with_theta: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        theta_bar = torch.zeros_like(theta)
        head, head_bias = self._flat.head_parameters(theta)
        head_dot, head_bias_dot = self._flat.head_parameters(v)
        head_bar, head_bias_bar = self._flat.head_parameters(theta_bar)
        value, images_bar, labels_bar = theta.new_zeros(()), [], []
        for x, p, share in self.chunks(channels_last(images.to(self._dtype)), soft_label):
            tape = self._tapes.pop() or self._forward(x)
            features = tape.y.flatten(1).to(theta.dtype)
            z, z_dot = linear(features, head, head_bias), linear(features, head_dot, head_bias_dot)
            part, z_bar, z_bar_dot, p_bar = self.loss_hvp(z, z_dot, p, share)
            value += part
            labels_bar.append(p_bar)
            head_bar.addmm_(z_bar_dot.T, features)
            head_bias_bar.add_(z_bar_dot.sum(0))
            images_bar.append(
                self._backward(
                    x, tape, (z_bar_dot @ head + z_bar @ head_dot).view(tape.y.shape).to(x.dtype)
                )
            )
        return (
            value,
            torch.cat(images_bar).to(images.dtype),
            torch.cat(labels_bar),
            theta_bar if with_theta else None,
        )

    def _forward(self, x: Tensor) -> _Tape:
        us, all_stats = [], []
        for layer in self._layers:
            us.append(convolution(x, layer.weight))
            x, stats = fused.forward(us[-1], layer.gamma, layer.beta)
            all_stats.append(stats)
        return _Tape(us[1:], all_stats, x)

    def _keep(self, tape: _Tape) -> None:
        kept = tape.nbytes <= self._left
        self._left -= tape.nbytes if kept else 0
        self._tapes.append(tape if kept else None)

    def _backward(self, x: Tensor, tape: _Tape, y_bar: Tensor) -> Tensor:
        for layer, u, stats in zip(self._layers[:0:-1], tape.us[::-1], tape.stats[::-1]):
            y_bar = input_bar(_u_bar(layer, u, stats, y_bar), layer.weight)
        first = self._layers[0]
        return fused.image_bar(
            _u_bar(first, convolution(x, first.weight), tape.stats[0], y_bar), first.weight
        )


def _u_bar(layer: Layer, u: Tensor, stats: Tensor, y_bar: Tensor) -> Tensor:
    return fused.backward(u, layer.gamma, layer.beta, stats, y_bar)[0]
