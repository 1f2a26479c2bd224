"""Training on all long-tailed images, the reference for small sets.

Three ways: cross-entropy, balanced softmax, and cross-entropy with a re-trained classifier. The
stages are those of the experts. N images, C classes, K x H x W image shape.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RepresentationStage, RunConfig
from ltdd_ray.data.prepare import Images
from ltdd_ray.experts.train import Epoch, classifier_stage, representation_stage
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import hard_label_loss

FULL_DATA = ("full_ce", "full_balanced_softmax", "full_decoupled")


def full_data_epochs(config: RunConfig, name: str) -> int:
    """How many epochs :func:`train_on_all` reports."""
    return config.evaluate.full_data.epochs + (
        config.experts.classifier.epochs if name == "full_decoupled" else 0
    )


def train_on_all(
    model: nn.Module,
    name: str,
    images: Images,
    labels: Tensor,
    config: RunConfig,
    seed: int,
    on_epoch: Callable[[int], None],
) -> None:
    """Train ``model`` in place on images (N, K, H, W) with labels (N,).

    ``name`` is one of :data:`FULL_DATA`. ``full_decoupled`` trains the network of ``full_ce``, and
    then its classifier alone, by the classifier stage of the experts.

    Raises ``NonFiniteLossError`` where a loss is not finite.
    """
    flat, augment = FlatModel(model), Augmentation(config.augmentation)
    balanced = name == "full_balanced_softmax"
    criterion = hard_label_loss("balanced_softmax" if balanced else "cross_entropy", labels)
    stage = RepresentationStage(**config.evaluate.full_data.model_dump(), sharpness="none")
    try:
        first = representation_stage(stage, flat, images, labels, augment, seed, 0, criterion)
        theta = _last(first, on_epoch)
        if name == "full_decoupled":
            second = classifier_stage(
                config.experts.classifier, flat, theta, images, labels, augment, seed, 0
            )
            head = _last(second, lambda epoch: on_epoch(stage.epochs + epoch))
            theta = torch.cat([flat.split(theta)[0], head])
    except NonFiniteLossError:
        raise NonFiniteLossError(
            f"{name}: the loss is not finite; lower evaluate.full_data.lr, or for full_decoupled "
            "experts.classifier.lr"
        ) from None
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(flat.views(theta)[key])
        _settle_batch_norm(model, images, seed)


def _last(epochs: Iterator[Epoch], on_epoch: Callable[[int], None]) -> Tensor:
    epoch = next(epochs)
    for epoch in epochs:
        on_epoch(epoch.epoch)
    return epoch.theta


def _settle_batch_norm(model: nn.Module, images: Images, seed: int) -> None:
    """Fill batch norm's running averages by one pass; the training above does not update them."""
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        model.train()
        for index in torch.randperm(len(images), generator=generator(seed, "batch-norm")).split(
            512
        ):
            model(images[index.to(images.device)])
