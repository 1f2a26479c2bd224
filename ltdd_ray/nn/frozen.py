"""The passes of a ConvNet's classifier theta_c (Pc,) behind a frozen backbone.

This is the inner problem of the classifier phase. Images enter through their features only, so a
step takes one forward pass, and its derivative one backward pass to the images. The backward pass
needs each layer's convolution u. ``gradient`` keeps it for ``hvp``, up to ``TAPE_BYTES``, except
the first layer's: that one is the largest and the cheapest, and ``hvp`` computes it again.
Letters and shapes are those of ``convnet_passes.py``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltdd_ray.common.device import without_autocast
from ltdd_ray.nn.convnet_passes import Views
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.kernels import first, fused
from ltdd_ray.nn.kernels.convolution import channels_last, convolution, convolution_dtype, input_bar
from ltdd_ray.nn.passes import Loss, Passes

TAPE_BYTES = 2**30


@dataclass(frozen=True)
class _Tape:
    """Each layer's u (B, C, H, W) but the first's, and statistics; the last y (B, C, H', W')."""

    us: list[Tensor]
    stats: list[Tensor]
    y: Tensor

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in [*self.us, *self.stats, self.y])


class FrozenConvNetPasses(Passes):
    """``hvp`` must get the batches of ``gradient`` in reverse order: it pops the tapes of those.

    The backbone is that of ``start`` (P,).
    """

    def __init__(self, flat: FlatModel, start: Tensor, loss: Loss, micro_batch: int | None) -> None:
        super().__init__(
            lambda theta_c, images: flat.head(theta_c, flat.features(start, images)),
            loss,
            micro_batch,
        )
        self._flat, self._dtype = flat, convolution_dtype(start)
        self._layers = Views.of(flat, start).layers
        self._tapes: list[_Tape | None] = []
        self._left = TAPE_BYTES if micro_batch is None else 0

    @torch.no_grad()
    @without_autocast
    def gradient(self, theta: Tensor, images: Tensor, soft_label: Tensor) -> Tensor:
        theta_bar = torch.zeros_like(theta)
        head, head_bias = self._flat.head_parameters(theta)
        head_bar, head_bias_bar = self._flat.head_parameters(theta_bar)
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
            y_bar = (z_bar_dot @ head + z_bar @ head_dot).view(tape.y.shape).to(x.dtype)
            images_bar.append(self._backward(x, tape, y_bar))
        bars = torch.cat(images_bar).to(images.dtype), torch.cat(labels_bar)
        return value, *bars, theta_bar if with_theta else None

    def _forward(self, x: Tensor) -> _Tape:
        block, *others = self._layers
        x, _, stats = first.forward(x, block.weight, block.gamma, block.beta)
        us, all_stats = [], [stats]
        for layer in others:
            us.append(convolution(x, layer.weight))
            x, stats = fused.forward(us[-1], layer.gamma, layer.beta)
            all_stats.append(stats)
        return _Tape(us, all_stats, x)

    def _keep(self, tape: _Tape) -> None:
        kept = tape.nbytes <= self._left
        self._left -= tape.nbytes if kept else 0
        self._tapes.append(tape if kept else None)

    def _backward(self, x: Tensor, tape: _Tape, y_bar: Tensor) -> Tensor:
        for layer, u, stats in zip(self._layers[:0:-1], tape.us[::-1], tape.stats[::-1]):
            u_bar, *_ = fused.backward(u, layer.gamma, layer.beta, stats, y_bar)
            y_bar = input_bar(u_bar, layer.weight)
        block = self._layers[0]
        return first.image_bar(x, block.weight, block.gamma, block.beta, tape.stats[0], y_bar)
