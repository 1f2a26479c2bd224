"""The set before its first update: real images or noise, as mosaics, with the experts' labels.

Experts are given images as students will see them: shrunk into a cell of a mosaic and enlarged
again. A label then describes the picture, not the image that it was made from.

M images, P = M f^2 pictures, N training images, C classes, E experts, K x H x W image shape.
"""

from collections.abc import Iterator
from itertools import islice
from math import ceil

import torch
from torch import Tensor

from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import class_budget, picture_budget
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import Images, PreparedData, model_space
from ltdd_ray.distill.formation import as_pictures, decode, encode, require_cells
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
from ltdd_ray.nn.networks import mixes_images
from ltdd_ray.store import TrajectoryStore


def empty_set(config: RunConfig, data: PreparedData, device: torch.device) -> SyntheticSet:
    """A set of the right shapes, all zeros; a checkpoint or rank 0 has the values."""
    train = data.train
    settings, counts = config.distill, train.class_counts.tolist()
    images = torch.zeros(sum(class_budget(settings, counts)), *train.image_shape, device=device)
    classes = _classes(picture_budget(settings, counts), device)
    labels = torch.zeros(len(classes), train.num_classes, device=device)
    return _set(config, data, images, labels, classes)


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
    classes = _classes(wanted, device)
    sentences: list[str] = []
    if settings.initial_images == "noise":
        stored = _noise(config, train, device)
        pictures = decode(stored, settings.pictures_per_side)
        logits = expert_logits(config, flat, store, pictures, as_they_are=True)
        label_logits = soft_label_logits(config, classes, train.num_classes, logits)
    else:
        stored, label_logits, sentences = _real_images(config, data, flat, store, wanted, device)
    return _set(config, data, stored, label_logits, classes), sentences


def _set(
    config: RunConfig, data: PreparedData, images: Tensor, labels: Tensor, classes: Tensor
) -> SyntheticSet:
    settings = config.distill
    rounded_by = data.normalisation.to(images.device) if settings.bits else None
    return SyntheticSet(
        images, labels, classes, settings.syn_lr, settings.pictures_per_side, rounded_by
    )


def _noise(config: RunConfig, train: LongTailedDataset, device: torch.device) -> Tensor:
    """Standard normal images (M, K, H, W) in model space."""
    images = sum(class_budget(config.distill, train.class_counts.tolist()))
    draw = generator(config.seed, "initial-noise")
    return torch.randn(images, *train.image_shape, generator=draw).to(device)


def _real_images(
    config: RunConfig,
    data: PreparedData,
    flat: FlatModel,
    store: TrajectoryStore,
    wanted: tuple[int, ...],
    device: torch.device,
) -> tuple[Tensor, Tensor, list[str]]:
    """Stored images (M, K, H, W), label logits (P, C), and sentences on filled classes."""
    settings, train = config.distill, data.train
    images, labels = model_space(train, data.normalisation, device)
    sentences: list[str] = []
    right = torch.ones(1, len(labels), dtype=torch.bool, device=device)  # any image may be chosen
    fill = "repeats" if settings.initial_images == "first_expert" else "others"
    if settings.initial_labels == "expert" and settings.initial_images != "random":
        # Two passes through the experts: their logits on all images may not fit in memory.
        experts = 1 if settings.initial_images == "first_expert" else config.experts.count
        logits = islice(expert_logits(config, flat, store, images), experts)
        right = torch.stack([one.argmax(-1) == labels for one in logits])
        sentences = describe_initial(right, labels, wanted, train.class_names, fill)
    index, repeat = choose_initial(right, labels, wanted, config.seed, fill)
    logits = expert_logits(config, flat, store, images[index])
    # The predictions of the first pass decide which experts are right, where all were asked.
    known = right[:, index] if len(right) == config.experts.count else None
    label_logits = soft_label_logits(config, labels[index], train.num_classes, logits, known)
    chosen = take_images(images, index, repeat, Augmentation(config.augmentation), config.seed)
    return encode(chosen, settings.pictures_per_side), label_logits, sentences


def soft_label_logits(
    config: RunConfig,
    classes: Tensor,
    num_classes: int,
    expert_logits: Iterator[Tensor],
    right: Tensor | None = None,
) -> Tensor:
    """Label logits (P, C) of pictures of ``classes`` (P,).

    Args:
        expert_logits: (P, C) of one expert after the other.
        right: (E, P), which expert predicts which picture correctly; None to find out.
    """
    if config.distill.initial_labels == "one_hot":
        return certain_logits(classes, num_classes)
    return expert_label_logits(config, classes, expert_logits, right)


def expert_label_logits(
    config: RunConfig,
    classes: Tensor,
    expert_logits: Iterator[Tensor],
    right: Tensor | None = None,
) -> Tensor:
    """Logits (P, C) of the experts' labels; arguments as in :func:`soft_label_logits`."""
    settings = config.distill
    count = 1 if settings.initial_label_rule == "one_expert" else config.experts.count
    logits = torch.stack([*islice(expert_logits, count)])
    right = logits.argmax(-1) == classes if right is None else right
    return expert_labels(logits, right, settings.initial_label_rule) / settings.label_temperature


def _classes(budget: tuple[int, ...], device: torch.device) -> Tensor:
    """The class of each picture, ``budget`` (C,) of each class in turn."""
    return torch.arange(len(budget), device=device).repeat_interleave(
        torch.tensor(budget, device=device)
    )


@torch.no_grad()
def expert_logits(
    config: RunConfig,
    flat: FlatModel,
    store: TrajectoryStore,
    images: Images,
    as_they_are: bool = False,
) -> Iterator[Tensor]:
    """Logits (N, C) of each ``label_expert`` at its last epoch, on ``images`` as pictures.

    ``as_they_are``: the images already are pictures.
    """
    stage, factor = config.distill.label_expert, config.distill.pictures_per_side
    # Parts of equal size: a last part of one image would be summed in another order.
    size = ceil(len(images) / ceil(len(images) / 512))
    order = order_of_parts(flat, len(images), config.seed)
    for expert in range(config.experts.count):
        theta = store.theta(expert, stage).to(images.device, torch.float32)
        parts = (images[index.to(images.device)] for index in order.split(size))
        pictures = (part if as_they_are else as_pictures(part, factor) for part in parts)
        yield torch.cat([flat.logits(theta, part) for part in pictures])[order.argsort()]


def order_of_parts(flat: FlatModel, count: int, seed: int) -> Tensor:
    """The order (N,) in which parts of N images go through ``flat``.

    It is random for batch norm: images often lie class by class, and a part of one class would be
    normalised by itself.
    """
    if not mixes_images(flat.model):
        return torch.arange(count)
    return torch.randperm(count, generator=generator(seed, "order-of-parts"))
