"""The set before its first update: real images, as mosaics, with the experts' labels.

Experts are given images as students will see them: shrunk into a cell of a mosaic and enlarged
again. A label then describes the picture, not the image that it was made from.

M images, P = M f^2 pictures, N training images, C classes, E experts, K x H x W image shape.
"""

from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor

from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import class_budget, picture_budget
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import Images, PreparedData, model_space
from ltdd_ray.distill.formation import as_pictures, encode, require_cells
from ltdd_ray.distill.initial import (
    certain_logits,
    choose_initial,
    describe_initial,
    expert_labels,
    take_images,
)
from ltdd_ray.distill.trajectory.synthetic import SyntheticSet
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.store import TrajectoryStore


def empty_set(config: RunConfig, train: LongTailedDataset, device: torch.device) -> SyntheticSet:
    """A set of the right shapes, all zeros; a checkpoint or rank 0 has the values."""
    settings, counts = config.distill, train.class_counts.tolist()
    images = torch.zeros(sum(class_budget(settings, counts)), *train.image_shape, device=device)
    classes = _classes(picture_budget(settings, counts), device)
    labels = torch.zeros(len(classes), train.num_classes, device=device)
    return SyntheticSet(images, labels, classes, settings.syn_lr, settings.pictures_per_side)


def initial_set(
    config: RunConfig,
    data: PreparedData,
    flat: FlatModel,
    store: TrajectoryStore,
    device: torch.device,
) -> tuple[SyntheticSet, list[str]]:
    """The set that distillation starts from, and a sentence for each class that had to be filled.

    Raises ``UserError`` for mosaics whose pictures do not fit the image.
    """
    settings, train = config.distill, data.train
    require_cells(train.image_shape, settings.pictures_per_side)
    wanted = picture_budget(settings, train.class_counts.tolist())
    images, labels = model_space(train, data.normalisation, device)
    sentences: list[str] = []
    if settings.initial_labels == "one_hot":  # any image may be chosen, whether predicted or not
        right = torch.ones(1, len(labels), dtype=torch.bool, device=device)
        index, repeat = choose_initial(right, labels, wanted, config.seed)
        label_logits = certain_logits(labels[index], train.num_classes)
    else:  # two passes through the experts: their logits on all images may not fit in memory
        logits = _expert_logits(config, flat, store, images)
        right = torch.stack([one.argmax(-1) == labels for one in logits])
        index, repeat = choose_initial(right, labels, wanted, config.seed)
        logits = torch.stack([*_expert_logits(config, flat, store, images[index])])
        label_logits = expert_labels(logits, right[:, index])
        sentences = describe_initial(right, labels, wanted, train.class_names)
    chosen = take_images(images, index, repeat, Augmentation(config.augmentation), config.seed)
    synthetic = SyntheticSet(
        encode(chosen, settings.pictures_per_side),
        label_logits,
        _classes(wanted, device),
        settings.syn_lr,
        settings.pictures_per_side,
    )
    return synthetic, sentences


def _classes(budget: tuple[int, ...], device: torch.device) -> Tensor:
    """The class of each picture, ``budget`` (C,) of each class in turn."""
    return torch.arange(len(budget), device=device).repeat_interleave(
        torch.tensor(budget, device=device)
    )


@torch.no_grad()
def _expert_logits(
    config: RunConfig, flat: FlatModel, store: TrajectoryStore, images: Images
) -> Iterator[Tensor]:
    """Logits (N, C) of each ``label_expert`` at its last epoch, on ``images`` as pictures."""
    stage, factor = config.distill.label_expert, config.distill.pictures_per_side
    # Parts of equal size: a last part of one image would be summed in another order.
    size = ceil(len(images) / ceil(len(images) / 512))
    for expert in range(config.experts.count):
        last = store.epochs(expert, stage)[-1]
        end = store.segment(expert, stage, last, last)
        theta = torch.cat([end.start_backbone, end.start_classifier])
        theta = theta.to(images.device, torch.float32)
        parts = (as_pictures(part, factor) for part in images.split(size))
        yield torch.cat([flat.logits(theta, part) for part in parts])
