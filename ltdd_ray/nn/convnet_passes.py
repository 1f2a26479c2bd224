"""The passes of a ConvNet with a linear classifier, written out layer by layer.

The HVP is reverse mode over forward mode. For a direction v, d/de grad L(theta + e v) takes one
sweep forward with tangents and one back. By symmetry it is the gradient of <grad_theta L, v> over
parameters, images and labels at once. Counted in convolutions of one layer it takes 8 passes, where
differentiating twice takes 9.

B batch, C channels, F features, K classes, P parameters; x inputs of a layer, u its convolution,
w its weights. A ``dot`` marks the derivative along v, a ``bar`` a gradient; a ``pair`` holds a
tensor and its dot side by side in the channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltdd_ray.common.device import without_autocast
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.kernels import first, fused
from ltdd_ray.nn.kernels.convolution import (
    channels_last,
    convolution,
    convolution_dtype,
    convolution_pair,
    input_bar,
    input_bar_pair,
    weight_bar,
    weight_bar_dot,
)
from ltdd_ray.nn.kernels.reference import Affine
from ltdd_ray.nn.passes import Loss, Passes


@dataclass(frozen=True)
class Layer:
    """Views of a vector (P,): weight (C, C', 3, 3), gamma (C,) and beta (C,) of one block.

    The convolution's bias is left out, because the norm behind it cancels it.
    """

    weight: Tensor
    gamma: Tensor
    beta: Tensor


@dataclass(frozen=True)
class Views:
    """Views of a vector (P,): the blocks, and the classifier's head (K, F) and head_bias (K,)."""

    layers: list[Layer]
    head: Tensor
    head_bias: Tensor

    @classmethod
    def of(cls, flat: FlatModel, theta: Tensor) -> "Views":
        """Raises ``TypeError`` where the parameters are not those of a ConvNet."""
        named = flat.views(theta)
        depth = (len(named) - 2) // 4
        blocks = [(f"backbone.{2 * k}.", f"backbone.{2 * k + 1}.") for k in range(depth)]
        prefixes = [*(prefix for block in blocks for prefix in block), "classifier."]
        expected = [prefix + name for prefix in prefixes for name in ("weight", "bias")]
        if sorted(named) != sorted(expected):
            raise TypeError(
                f"the passes of a ConvNet need the parameters {', '.join(expected)}; this network "
                f"has {', '.join(named)}; derive it from torch.nn.Module instead of Network"
            )
        layers = [
            Layer(named[f"{conv}weight"], named[f"{norm}weight"], named[f"{norm}bias"])
            for conv, norm in blocks
        ]
        return cls(layers, named["classifier.weight"], named["classifier.bias"])


class ConvNetPasses(Passes):
    """The passes of theta (P,) for a network that is a ``ConvNet`` and a linear classifier."""

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
                if not tape:
                    y, u, stats = first.forward(x, layer.weight, layer.gamma, layer.beta)
                else:
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
                given = u, layer.gamma, layer.beta, stats, y_bar
                if not k:
                    _add(bar.layers[k], *first.backward(x, layer.weight, *given))
                    break
                u_bar, *affine_bar = fused.backward(*given)
                _add(bar.layers[k], weight_bar(x, u_bar, layer.weight), *affine_bar)
                y_bar = input_bar(u_bar, layer.weight)
        return theta_bar

    @torch.no_grad()
    @without_autocast
    def hvp(
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
                weights = layer.weight, layer_dot.weight
                if not tape:
                    y, y_dot, u_pair, stats = first.tangent_forward(x, *weights, affine)
                else:
                    u_pair, u_extra = convolution_pair(x, x_dot, *weights)
                    y, y_dot, stats = fused.tangent_forward(u_pair, u_extra, affine)
                tape.append((x, x_dot, u_pair, stats))
                x, x_dot = y, y_dot
            assert x_dot is not None
            features, features_dot = x.flatten(1).to(theta.dtype), x_dot.flatten(1).to(theta.dtype)
            z = linear(features, at.head, at.head_bias)
            z_dot = linear(features_dot, at.head) + linear(features, dot.head, dot.head_bias)
            part, z_bar, z_bar_dot, p_bar = self.loss_hvp(z, z_dot, p, share)
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
                weight, weight_dot = at.layers[k].weight, dot.layers[k].weight
                x, x_dot, u_pair, stats = tape.pop()
                given = u_pair, affines[k], stats, y_bar_pair, y_bar_extra
                if not k:
                    x_bar_dot, w_bar_dot, *affine_bar_dot = first.tangent_backward(
                        x, weight, weight_dot, *given, with_theta
                    )
                    images_bar.append(x_bar_dot)
                    if bar is not None and w_bar_dot is not None:
                        _add(bar.layers[k], w_bar_dot, *affine_bar_dot)
                    break
                u_bar, u_bar_dot, *affine_bar_dot = fused.tangent_backward(*given)
                if bar is not None:
                    w_bar_dot = weight_bar_dot(x, x_dot, u_bar, u_bar_dot, weight)
                    _add(bar.layers[k], w_bar_dot, *affine_bar_dot)
                y_bar_pair, y_bar_extra = input_bar_pair(u_bar, u_bar_dot, weight, weight_dot)
        return value, torch.cat(images_bar).to(images.dtype), torch.cat(labels_bar), theta_bar


def _add(bar: Layer, weight_bar: Tensor, gamma_bar: Tensor, beta_bar: Tensor) -> None:
    bar.weight.add_(weight_bar)
    bar.gamma.add_(gamma_bar)
    bar.beta.add_(beta_bar)
