"""Which passes a network gets: those written out by hand where it is a ConvNet, else the general ones."""

from torch import Tensor, nn

from ltdd_ray.nn.convnet import ConvNet
from ltdd_ray.nn.convnet_passes import ConvNetPasses
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.frozen import FrozenConvNetPasses
from ltdd_ray.nn.networks import Network
from ltdd_ray.nn.passes import Loss, Passes


def network_passes(flat: FlatModel, loss: Loss, micro_batch: int | None = None) -> Passes:
    """The passes of theta (P,)."""
    if is_convnet(flat.model):
        return ConvNetPasses(flat, loss, micro_batch)
    return Passes(flat.logits, loss, micro_batch)


def classifier_passes(
    flat: FlatModel, start: Tensor, loss: Loss, micro_batch: int | None = None
) -> Passes:
    """The passes of theta_c (Pc,), the backbone frozen at ``start`` (P,)."""
    backbone = start.detach()
    if is_convnet(flat.model):
        return FrozenConvNetPasses(flat, backbone, loss, micro_batch)
    return Passes(
        lambda theta_c, images: flat.head(theta_c, flat.features(backbone, images)),
        loss,
        micro_batch,
    )


def is_convnet(model: nn.Module) -> bool:
    """Whether the passes written out for a ConvNet with a linear classifier fit ``model``."""
    return (
        isinstance(model, Network)
        and isinstance(model.backbone, ConvNet)
        and isinstance(model.classifier, nn.Linear)
    )
