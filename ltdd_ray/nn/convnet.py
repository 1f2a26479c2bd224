"""ConvNet-D with instance norm, its gradient, and that gradient's derivative along a direction, written out layer by layer.

Reverse mode over forward mode: for a direction v, d/de grad L(theta + e v) needs one sweep forward with tangents and one back,
and by symmetry it is the gradient of <grad_theta L, v> over parameters, images and labels at once. Counted in convolutions of one
layer that is 8 passes where differentiating twice takes 9.

B batch, C channels, F features, K classes, P parameters; x inputs of a layer, u its convolution, w its weights. A ``dot`` marks the
derivative along v, a ``bar`` a gradient, a ``pair`` holds a tensor and its dot side by side in the channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ltdd_ray.common.device import without_autocast
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.kernels import fused
from ltdd_ray.nn.kernels.convolution import (
    Convolution,
    channels_last,
    convolution,
    convolution_dtype,
    convolution_pair,
    input_bar,
    input_bar_pair,
    weight_bar,
)
from ltdd_ray.nn.kernels.fused import NormReluPool
from ltdd_ray.nn.kernels.reference import Affine
from ltdd_ray.nn.passes import Loss, Passes


class ConvNet(nn.Sequential):
    """Images to features by D blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [Convolution(width if block else channels, width), NormReluPool(width)]
        super().__init__(*layers, nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(channels_last(images))


@dataclass(frozen=True)
class Layer:
    """Views into a vector (P,): w (C, C', 3, 3), gamma and beta (C,). The bias is left out: the norm takes it away again."""

    weight: Tensor
    gamma: Tensor
    beta: Tensor


@dataclass(frozen=True)
class Views:
    """What a vector (P,) of a ConvNet and a linear classifier holds; head (K, F), head_bias (K,)."""

    layers: list[Layer]
    head: Tensor
    head_bias: Tensor

    @classmethod
    def of(cls, flat: FlatModel, theta: Tensor) -> "Views":
        views = list(flat.views(theta).values())
        blocks = zip(views[0:-2:4], views[2:-2:4], views[3:-2:4])
        return cls([Layer(*block) for block in blocks], views[-2], views[-1])


class ConvNetPasses(Passes):
    """The passes over a network that is a :class:`ConvNet` and a linear classifier."""

    def __init__(self, flat: FlatModel, loss: Loss, micro_batch: int | None) -> None:
        super().__init__(flat.logits, loss, micro_batch)
        self._flat, self._dtype = flat, convolution_dtype(next(flat.model.parameters()))

    @torch.no_grad()
    @without_autocast
    def gradient(self, theta: Tensor, images: Tensor, soft_label: Tensor) -> Tensor:
        theta_bar = torch.zeros_like(theta)
        at, bar = Views.of(self._flat, theta), Views.of(self._flat, theta_bar)
        for x, p, share in self.chunks(channels_last(images.to(self._dtype)), soft_label):
            tape = []
            for layer in at.layers:
                u = convolution(x, layer.weight)
                y, stats = fused.forward(u, layer.gamma, layer.beta)
                tape.append((x, u, stats))
                x = y
            features = x.flatten(1).to(theta.dtype)
            z_bar = self.loss_bar(linear(features, at.head, at.head_bias), p, share)
            bar.head.addmm_(z_bar.T, features)
            bar.head_bias.add_(z_bar.sum(0))
            y_bar = (z_bar @ at.head).view(x.shape).to(x.dtype)
            for k in reversed(range(len(at.layers))):
                layer, (x, u, stats) = at.layers[k], tape.pop()
                if k:
                    u_bar, *affine_bar = fused.backward(u, layer.gamma, layer.beta, stats, y_bar)
                    _add(bar.layers[k], weight_bar(x, u_bar, layer.weight), *affine_bar)
                    y_bar = input_bar(u_bar, layer.weight)
                else:
                    _add(
                        bar.layers[k],
                        *fused.backward_first(
                            x, layer.weight, u, layer.gamma, layer.beta, stats, y_bar
                        ),
                    )
        return theta_bar

    @torch.no_grad()
    @without_autocast
    def along(
        self, theta: Tensor, v: Tensor, images: Tensor, soft_label: Tensor, with_theta: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        theta_bar = torch.zeros_like(theta) if with_theta else None
        at, dot = Views.of(self._flat, theta), Views.of(self._flat, v)
        bar = Views.of(self._flat, theta_bar) if theta_bar is not None else None
        affines = [
            Affine(one.gamma, one.beta, other.gamma, other.beta)
            for one, other in zip(at.layers, dot.layers)
        ]
        value, images_bar, labels_bar = theta.new_zeros(()), [], []
        for x, p, share in self.chunks(channels_last(images.to(self._dtype)), soft_label):
            x_dot, tape = None, []
            for layer, layer_dot, affine in zip(at.layers, dot.layers, affines):
                u_pair, u_extra = convolution_pair(x, x_dot, layer.weight, layer_dot.weight)
                y, y_dot, stats = fused.tangent_forward(u_pair, u_extra, affine)
                tape.append((x, x_dot, u_pair, stats))
                x, x_dot = y, y_dot
            assert x_dot is not None
            features, features_dot = x.flatten(1).to(theta.dtype), x_dot.flatten(1).to(theta.dtype)
            z = linear(features, at.head, at.head_bias)
            z_dot = linear(features_dot, at.head) + linear(features, dot.head, dot.head_bias)
            part, z_bar, z_bar_dot, p_bar = self.loss_along(z, z_dot, p, share)
            value += part
            labels_bar.append(p_bar)
            if bar is not None:
                bar.head.addmm_(z_bar_dot.T, features).addmm_(z_bar.T, features_dot)
                bar.head_bias.add_(z_bar_dot.sum(0))
            y_bars = (
                (z_bar @ at.head).view(x.shape),
                (z_bar_dot @ at.head + z_bar @ dot.head).view(x.shape),
            )
            y_bar_pair, y_bar_extra = channels_last(torch.cat(y_bars, 1).to(x.dtype)), None
            for k in reversed(range(len(at.layers))):
                weight, weight_dot, (x, x_dot, u_pair, stats) = (
                    at.layers[k].weight,
                    dot.layers[k].weight,
                    tape.pop(),
                )
                u_bar, u_bar_dot, *affine_bar_dot = fused.tangent_backward(
                    u_pair, affines[k], stats, y_bar_pair, y_bar_extra
                )
                if bar is not None:
                    _add(bar.layers[k], weight_bar(x, u_bar_dot, weight), *affine_bar_dot)
                    if x_dot is not None:
                        bar.layers[k].weight.add_(weight_bar(x_dot, u_bar, weight))
                if k:
                    y_bar_pair, y_bar_extra = input_bar_pair(u_bar, u_bar_dot, weight, weight_dot)
                else:
                    images_bar.append(
                        fused.image_bar(u_bar_dot, weight) + fused.image_bar(u_bar, weight_dot)
                    )
        return value, torch.cat(images_bar).to(images.dtype), torch.cat(labels_bar), theta_bar


def _add(bar: Layer, weight_bar: Tensor, gamma_bar: Tensor, beta_bar: Tensor) -> None:
    bar.weight.add_(weight_bar)
    bar.gamma.add_(gamma_bar)
    bar.beta.add_(beta_bar)
