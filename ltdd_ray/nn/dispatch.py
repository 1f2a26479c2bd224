"""Chooses the passes for a network: written out by hand for a ConvNet, else by autograd."""

from torch import Tensor, nn

from ltdd_ray.nn.convnet import ConvNet
from ltdd_ray.nn.convnet_passes import ConvNetPasses
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.frozen import FrozenConvNetPasses
from ltdd_ray.nn.networks import Network
from ltdd_ray.nn.passes import Loss, Passes


def network_passes(flat: FlatModel, loss: Loss, micro_batch: int | None = None) -> Passes:
    """The passes for a step of all parameters, theta (P,)."""
    if is_convnet(flat.model):
        return ConvNetPasses(flat, loss, micro_batch)
    return Passes(flat.logits, loss, micro_batch)


def classifier_passes(
    flat: FlatModel, start: Tensor, loss: Loss, micro_batch: int | None = None
) -> Passes:
    """The passes for a step of theta_c (Pc,) behind the frozen backbone of ``start`` (P,)."""
    backbone = start.detach()
    if is_convnet(flat.model):
        return FrozenConvNetPasses(flat, backbone, loss, micro_batch)
    return Passes(
        lambda theta_c, images: flat.head(theta_c, flat.features(backbone, images)),
        loss,
        micro_batch,
    )


def is_convnet(model: nn.Module) -> bool:
    """Whether ``model`` is a ConvNet with instance norm and a linear classifier."""
    return (
        isinstance(model, Network)
        and isinstance(model.backbone, ConvNet)
        and model.backbone.norm == "instance"
        and isinstance(model.classifier, nn.Linear)
    )
