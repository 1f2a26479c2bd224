"""The field's networks: a backbone that ends in a flat feature vector, and a linear classifier.

B batch, K image channels, H x W image size, F features, C classes.
"""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ModelConfig
from ltdd_ray.config.model import NETWORKS
from ltdd_ray.nn.convnet import ConvNet


class Network(nn.Module):
    """Images (B, K, H, W) -> features (B, F) by ``backbone`` -> logits (B, C) by ``classifier``."""

    def __init__(self, backbone: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.backbone(images))


def build_network(
    config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int, seed: int
) -> Network:
    """A freshly initialised network for images of ``image_shape`` (K, H, W).

    Equal seeds give equal weights; torch's global generator is left alone. Raises ``UserError`` if
    the images are too small for the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        builder = NETWORKS.get(config.name) or _BACKBONES[config.name]
        backbone = builder(config, image_shape[0])
        features = _feature_size(backbone, image_shape, config)
        return Network(backbone, nn.Linear(features, num_classes))


def register_network(name: str, builder: Callable[[ModelConfig, int], nn.Module]) -> None:
    """Make ``model.name: NAME`` build the network of ``builder``.

    ``builder(config, channels)`` returns a freshly initialised backbone: images (B, channels, H, W)
    in model space to features (B, F). A linear classifier is put behind it. ``config`` has
    ``width``, ``depth`` and ``norm``, which the builder may use. Weights are drawn from torch's
    global generator, which is seeded around the call. If the backbone has batch norm, set
    ``model.norm: batch``: settings that would split a batch are then refused.

    The name stands for the code: stored experts are found by it. Register changed code under
    another name. Raises ``UserError`` for a built-in name.
    """
    NETWORKS.register(name, builder)


def _feature_size(
    backbone: nn.Module, image_shape: tuple[int, int, int], config: ModelConfig
) -> int:
    size = "x".join(map(str, image_shape[1:]))
    try:
        with torch.no_grad():
            features = backbone.eval()(
                torch.arange(2.0 * prod(image_shape)).sin().view(2, *image_shape)
            )
    except RuntimeError as error:
        if NETWORKS.get(config.name):
            raise UserError(
                f"network `{config.name}` fails on images of {size} pixels: {error}; "
                "correct its builder or set data.image_size"
            ) from error
        remedy = "lower model.depth or " if config.name == "convnet" else ""
        raise UserError(
            f"images of {size} pixels vanish in the pooling of model.name {config.name}; "
            f"{remedy}set data.image_size larger"
        ) from None
    finally:
        backbone.train()
    if NETWORKS.get(config.name):
        if features.ndim != 2:
            raise UserError(
                f"network `{config.name}` returns features of shape {tuple(features.shape)}; "
                "end its backbone with torch.nn.Flatten() to return (B, F)"
            )
        return features.shape[1]
    # Instance norm of a single pixel is a constant: two different images get equal features.
    if config.norm == "instance" and torch.allclose(*features, atol=1e-3):
        raise UserError(
            f"images of {size} pixels shrink to one pixel inside model.name {config.name}, and "
            "instance norm of one pixel is constant; set model.norm to batch or data.image_size "
            "larger"
        )
    return features.shape[1]


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "instance":  # GroupNorm with a group per channel, as the field's code has it
        return nn.GroupNorm(channels, channels)
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()


def _conv_block(inputs: int, outputs: int, norm: str) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), _norm(norm, outputs), nn.ReLU()]


def _convnet(config: ModelConfig, channels: int) -> nn.Module:
    """ConvNet-D (Gidaris & Komodakis, CVPR 2018): D blocks of convolution, norm, ReLU, pooling."""
    if config.norm != "none":
        return ConvNet(channels, config.width, config.depth, config.norm)
    layers: list[nn.Module] = []
    for block in range(config.depth):
        layers += [
            *_conv_block(config.width if block else channels, config.width, config.norm),
            nn.AvgPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten())


def _vgg11(config: ModelConfig, channels: int) -> nn.Module:
    """VGG11 (Simonyan & Zisserman, ICLR 2015) without its hidden fully connected layers."""
    layers: list[nn.Module] = []
    for outputs, pooled in [
        (64, True),
        (128, True),
        (256, False),
        (256, True),
        (512, False),
        (512, True),
        (512, False),
        (512, True),
    ]:
        layers += _conv_block(channels, outputs, config.norm)
        channels = outputs
        if pooled:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten())


def _alexnet(config: ModelConfig, channels: int) -> nn.Module:
    """AlexNet (Krizhevsky et al., NeurIPS 2012) in the field's form for small images, no norm."""
    layers: list[nn.Module] = []
    for outputs, kernel, pooled in [
        (128, 5, True),
        (192, 5, True),
        (256, 3, False),
        (192, 3, False),
        (192, 3, True),
    ]:
        layers += [nn.Conv2d(channels, outputs, kernel, padding=kernel // 2), nn.ReLU()]
        channels = outputs
        if pooled:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten())


def _resnet18(config: ModelConfig, channels: int) -> nn.Module:
    """ResNet18 (He et al., CVPR 2016) for small images: 3x3 stem, no pooling before stage one."""
    from torchvision.models import resnet18  # here, since the other networks need no torchvision

    net = resnet18(norm_layer=lambda width: _norm(config.norm, width))
    net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    net.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return net


_BACKBONES = {"convnet": _convnet, "vgg11": _vgg11, "alexnet": _alexnet, "resnet18": _resnet18}


def mixes_images(model: nn.Module) -> bool:
    """Whether what ``model`` says of an image depends on the rest of its batch, by batch norm."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
