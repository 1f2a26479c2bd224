"""The statistics that batch norm uses, of each class and over classes.

A batch norm sees activations (B, F, ...) and uses the mean and variance of each channel. Here the
first two moments of a class's activations are kept, E x and E x^2: they average over images and
over classes alike, and give the variance E x^2 - (E x)^2 of what was averaged.

B images, C classes, F channels; the statistics of a network are a list over its batch norms, in the
order in which an image passes them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ltdd_ray.data.prepare import Images
from ltdd_ray.distill.distribution.distances import class_means

AT_ONCE = 512  # images in one pass


def forward(network: nn.Module, images: Tensor) -> tuple[Tensor, dict[_BatchNorm, Tensor]]:
    """Logits (B, C), and the moments (B, 2 F) of each image in front of each batch norm.

    Differentiable in the images.
    """
    found: dict[_BatchNorm, Tensor] = {}

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        found[layer] = moments(inputs[0])

    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    handles = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        return network(images), found
    finally:
        for handle in handles:
            handle.remove()


def moments(activations: Tensor) -> Tensor:
    """Mean and mean square (B, 2 F) of each channel of activations (B, F, ...)."""
    flat = activations.reshape(*activations.shape[:2], -1)
    return torch.cat([flat.mean(2), flat.square().mean(2)], 1)


def mean_and_variance(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Two times (..., F) from moments (..., 2 F)."""
    mean, square = moments.chunk(2, -1)
    return mean, square - mean.square()


@torch.no_grad()
def recalibrate(
    network: nn.Module, images: Images, members: Sequence[Tensor], weights: Tensor
) -> list[Tensor]:
    """Set the running statistics to those of ``images``, in which class k weighs ``weights[k]``.

    Each batch norm is set before those behind it are measured, so all of them fit each other.
    Weights and mode stay: ``network`` is in evaluation mode.

    Args:
        images: (N, K, H, W) in model space. members: the images of each class, (n_k,) each.
        weights: (C,), of sum 1.

    Returns the moments (C, 2 F) of each class in front of each batch norm.
    """
    found: list[Tensor] = []
    layers = list(forward(network, images[members[0][:1]])[1])
    for layer in layers:
        found.append(torch.stack([_class_moments(network, images, own, layer) for own in members]))
        mean, variance = mean_and_variance(weights.to(found[-1]) @ found[-1])
        assert layer.running_mean is not None and layer.running_var is not None
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
    return found


def _class_moments(
    network: nn.Module, images: Images, members: Tensor, layer: _BatchNorm
) -> Tensor:
    """The mean (2 F,) of the moments of the images ``members`` (n_k,), as float64.

    The momentum B / (N + B) of a batch of B images after N others makes it exact.
    """
    mean, seen = torch.zeros((), dtype=torch.float64, device=images.device), 0
    for index in members.split(AT_ONCE):
        batch = forward(network, images[index.to(images.device)])[1][layer].double().mean(0)
        mean = mean + len(index) / (seen + len(index)) * (batch - mean)
        seen += len(index)
    return mean


def distances(
    found: Sequence[Tensor], classes: Tensor, real: Sequence[Tensor], weights: Tensor
) -> tuple[Tensor, Tensor]:
    """How far pictures are from real images: over all classes together, and class by class.

    Both are sums over layers of || mean - mean' || + || variance - variance' ||, scalars; the
    second is a mean over classes.

    Args:
        found: the moments (B, 2 F) of pictures of ``classes`` (B,), in front of each batch norm.
        real: the moments (C, 2 F) of real images there. weights: (C,), those of the classes in the
            first distance.
    """
    together = by_class = classes.new_zeros((), dtype=found[0].dtype)
    for mine, true in zip(found, real, strict=True):
        true = true.to(mine)
        mine = class_means(mine, classes, len(true))
        together = together + _apart(weights.to(mine) @ mine, weights.to(mine) @ true)
        by_class = by_class + _apart(mine, true).mean()
    return together, by_class


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """The distance (...) of moments (..., 2 F)."""
    pairs = zip(mean_and_variance(one), mean_and_variance(other))
    return torch.stack([(a - b).norm(dim=-1) for a, b in pairs]).sum(0)
