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
from torch.nn.functional import conv2d, linear

from ltdd_ray.nn import fused
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.fused import NormReluPool, channels_last
from ltdd_ray.nn.passes import Loss, Passes
from ltdd_ray.nn.plain import Affine


class ConvNet(nn.Sequential):
    """Images to features by D blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        self.depth = depth
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [nn.Conv2d(width if block else channels, width, 3, padding=1), NormReluPool(width)]
        super().__init__(*layers, nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(channels_last(images))


@dataclass(frozen=True)
class _Layer:
    """Views into a vector (P,): w (C, C', 3, 3), gamma and beta (C,). The bias is left out: the norm takes it away again."""

    weight: Tensor
    gamma: Tensor
    beta: Tensor


class ConvNetPasses(Passes):
    """The passes over a network that is a :class:`ConvNet` and a linear classifier."""

    def __init__(self, flat: FlatModel, depth: int, loss: Loss, micro_batch: int | None) -> None:
        super().__init__(flat.logits, loss, micro_batch)
        self._flat, self._depth = flat, depth

    @torch.no_grad()
    def gradient(self, theta: Tensor, images: Tensor, soft_label: Tensor) -> Tensor:
        layers, (head, head_bias) = self._layers(theta), self._head(theta)
        theta_bar = torch.zeros_like(theta)
        bars, head_bars = self._layers(theta_bar), self._head(theta_bar)
        for x, p, share in self._chunks(channels_last(images), soft_label):
            tape = []
            for layer in layers:
                u = conv2d(x, layer.weight, padding=1)
                y, stats = fused.forward(u, layer.gamma, layer.beta)
                tape.append((x, u, stats))
                x = y
            features = x.flatten(1)
            z = linear(features, head, head_bias)
            with torch.enable_grad():
                (z_bar,) = torch.autograd.grad(share * self.loss(z.requires_grad_(), p), z)
            head_bars[0].addmm_(z_bar.T, features)
            head_bars[1].add_(z_bar.sum(0))
            y_bar = channels_last((z_bar @ head).view(x.shape))
            for layer, bar, (x, u, stats) in zip(reversed(layers), reversed(bars), reversed(tape)):
                u_bar, gamma_bar, beta_bar = fused.backward(u, layer.gamma, layer.beta, stats, y_bar)
                bar.gamma.add_(gamma_bar)
                bar.beta.add_(beta_bar)
                bar.weight.add_(_weight_bar(x, u_bar, layer.weight))
                if layer is not layers[0]:
                    y_bar = _input_bar(x, u_bar, layer.weight)
        return theta_bar

    @torch.no_grad()
    def along(
        self, theta: Tensor, v: Tensor, images: Tensor, soft_label: Tensor, with_theta: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        layers, dots = self._layers(theta), self._layers(v)
        (head, head_bias), (head_dot, head_bias_dot) = self._head(theta), self._head(v)
        theta_bar = torch.zeros_like(theta) if with_theta else None
        bars, head_bars = (self._layers(theta_bar), self._head(theta_bar)) if theta_bar is not None else (layers, None)
        affines = [Affine(layer.gamma, layer.beta, dot.gamma, dot.beta) for layer, dot in zip(layers, dots)]
        outputs = [torch.cat([layer.weight, dot.weight]) for layer, dot in zip(layers, dots)]
        inputs = [torch.cat([layer.weight, dot.weight], 1) for layer, dot in zip(layers, dots)]
        value, images_bar, labels_bar = theta.new_zeros(()), [], []
        for x, p, share in self._chunks(channels_last(images), soft_label):
            x_dot, tape = None, []
            for layer, affine, output in zip(layers, affines, outputs):
                u_pair = channels_last(conv2d(x, output, padding=1))
                u_extra = None if x_dot is None else channels_last(conv2d(x_dot, layer.weight, padding=1))
                y, y_dot, stats = fused.tangent_forward(u_pair, u_extra, affine)
                tape.append((x, x_dot, u_pair, stats))
                x, x_dot = y, y_dot
            assert x_dot is not None
            features, features_dot = x.flatten(1), x_dot.flatten(1)
            z_dot = linear(features_dot, head) + linear(features, head_dot, head_bias_dot)
            chunk, z_bar, z_bar_dot, p_bar = _loss_along(self.loss, linear(features, head, head_bias), z_dot, p, share)
            value += chunk
            labels_bar.append(p_bar)
            if head_bars is not None:
                head_bars[0].addmm_(z_bar_dot.T, features).addmm_(z_bar.T, features_dot)
                head_bars[1].add_(z_bar_dot.sum(0))
            y_bars = (z_bar @ head).view(x.shape), (z_bar_dot @ head + z_bar @ head_dot).view(x.shape)
            y_bar_pair, y_bar_extra = channels_last(torch.cat(y_bars, 1)), None
            for k in reversed(range(self._depth)):
                x, x_dot, u_pair, stats = tape.pop()
                weight = layers[k].weight
                u_bar, u_bar_dot, gamma_bar_dot, beta_bar_dot = fused.tangent_backward(
                    u_pair, affines[k], stats, y_bar_pair, y_bar_extra
                )
                if theta_bar is not None:
                    bars[k].gamma.add_(gamma_bar_dot)
                    bars[k].beta.add_(beta_bar_dot)
                    bars[k].weight.add_(_weight_bar(x, u_bar_dot, weight))
                    if x_dot is not None:
                        bars[k].weight.add_(_weight_bar(x_dot, u_bar, weight))
                if k:
                    y_bar_pair = channels_last(_input_bar(torch.cat([x, x], 1), u_bar, inputs[k]))
                    y_bar_extra = channels_last(_input_bar(x, u_bar_dot, weight))
                else:
                    images_bar.append(_input_bar(x, u_bar_dot, weight) + _input_bar(x, u_bar, dots[0].weight))
        return value, torch.cat(images_bar), torch.cat(labels_bar), theta_bar

    def _layers(self, theta: Tensor) -> list[_Layer]:
        views = self._flat.views(theta)
        return [
            _Layer(views[f"backbone.{2 * k}.weight"], views[f"backbone.{2 * k + 1}.weight"], views[f"backbone.{2 * k + 1}.bias"])
            for k in range(self._depth)
        ]

    def _head(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        views = self._flat.views(theta)
        return views["classifier.weight"], views["classifier.bias"]


def _loss_along(loss: Loss, z: Tensor, z_dot: Tensor, p: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """<grad_z L, z_dot>, grad_z L, and the gradient of the first over z and p."""
    with torch.enable_grad():
        z, p = z.detach().requires_grad_(), p.detach().requires_grad_()
        (z_bar,) = torch.autograd.grad(share * loss(z, p), z, create_graph=True)
        along = (z_bar * z_dot).sum()
        z_bar_dot, p_bar = torch.autograd.grad(along, (z, p))
    return along.detach(), z_bar.detach(), z_bar_dot, p_bar


def _convolution_backward(x: Tensor, u_bar: Tensor, weight: Tensor, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten.convolution_backward(u_bar, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)


def _input_bar(x: Tensor, u_bar: Tensor, weight: Tensor) -> Tensor:
    return _convolution_backward(x, u_bar, weight, [True, False, False])[0]


def _weight_bar(x: Tensor, u_bar: Tensor, weight: Tensor) -> Tensor:
    return _convolution_backward(x, u_bar, weight, [False, True, False])[1]
