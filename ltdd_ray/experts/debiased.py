"""The debiased representation stage of RLDD (arXiv 2511.18858, AAAI 2026), its step 1.

    l = -mean_i cos(z_i, stopgrad(p_other)) + mean_i ((1 - a) + a w_y) CE(x_i, y)      a = (t/T)^2

p is a projection of the features of one mixed view of a batch, z a prediction from it, "other" the
second view, t the epoch of T, and w_y proportional to (share of class y)^-q. The first term, that
of SimSiam (Chen & He, CVPR 2021), needs no labels, so the head cannot crowd it out. The second
turns from images, which weigh alike at first, to classes.

Choices of this project, as the text leaves them open: p has one hidden layer and z one of a quarter
of the width, with layer norm in place of batch norm; w is scaled to a mean of 1 over the images, so
that the rate means the same at every epoch; a view is an augmented batch, mixed (mixup) with a
random order of itself, alike in both views; both views enter the second term with equal weight; the
epochs and the schedule are those of the config.

N images, B batch, C classes, D width of the projection.
"""

from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from ltdd_ray.common.device import to_device
from ltdd_ray.common.seeding import derive_seed, generator
from ltdd_ray.config import RepresentationStage
from ltdd_ray.data.prepare import Images
from ltdd_ray.experts.train import Epoch, Tally
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel

WIDTH = 128


def debiased_stage(
    stage: RepresentationStage,
    flat: FlatModel,
    images: Images,
    labels: Tensor,
    augment: Augmentation,
    seed: int,
    expert: int,
) -> Iterator[Epoch]:
    """As :func:`~ltdd_ray.experts.train.representation_stage`, under the loss above.

    The layers of p and z are trained along and not kept.
    """
    theta = flat.initial().to(images.device).requires_grad_()
    project, predict = heads(flat.head_weight(flat.split(theta)[1]).shape[1], seed, expert)
    heads_parameters = [*project.to(images.device).parameters()]
    heads_parameters += predict.to(images.device).parameters()
    moving = [theta, *heads_parameters]
    optimiser = SGD(moving, stage.lr, stage.momentum, weight_decay=stage.weight_decay)
    batches = ceil(len(images) / stage.batch_size)
    falling = CosineAnnealingLR(optimiser, stage.epochs * batches)
    weights = class_weights(labels, stage.reweighting)
    yield Epoch(0, theta.detach().clone(), None, None)
    for epoch in range(1, stage.epochs + 1):
        draw = generator(seed, "representation", expert, epoch)
        turned, tally = (epoch / stage.epochs) ** 2, Tally(images.device)
        for index in torch.randperm(len(images), generator=draw).split(stage.batch_size):
            index = to_device(index, images.device)
            order = to_device(torch.randperm(len(index), generator=draw), images.device)
            # At least one half: either image may come first, so no mixture is left out.
            share = 0.5 + float(torch.rand((), generator=draw)) / 2
            batch, target = images[index], labels[index]
            predicted, projected, entropies = [], [], []
            for _ in range(2):
                view = augment(batch, draw)
                features = flat.features(theta, share * view + (1 - share) * view[order])
                logits = flat.head(flat.split(theta)[1], features)
                projected.append(project(features))
                predicted.append(predict(projected[-1]))
                for part, of in ((share, target), (1 - share, target[order])):
                    entropies.append(part / 2 * turning_entropy(logits, of, weights, turned))
            loss = dissimilarity(predicted, projected) + torch.stack(entropies).sum()
            tally.add(loss, logits, target)
            for parameter, gradient in zip(moving, grad(loss, moving)):
                parameter.grad = gradient
            optimiser.step()
            if stage.schedule == "cosine":
                falling.step()
        where = f"expert {expert}, representation epoch {epoch}"
        yield Epoch(epoch, theta.detach().clone(), *tally.result(where))


def heads(features: int, seed: int, expert: int) -> tuple[nn.Module, nn.Module]:
    """p (B, D) from features (B, ``features``), and z (B, D) from p."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "expert-projection", expert))
        return _two_layers(features, WIDTH), _two_layers(WIDTH, WIDTH // 4)


def _two_layers(inputs: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, WIDTH)
    )


def dissimilarity(predicted: list[Tensor], projected: list[Tensor]) -> Tensor:
    """The first term: ``predicted`` z and ``projected`` p (B, D) of both views, p held fixed."""
    (z, other_z), (p, other_p) = predicted, projected
    similar = cosine_similarity(z, other_p.detach()) + cosine_similarity(other_z, p.detach())
    return -similar.mean() / 2


def class_weights(labels: Tensor, power: float) -> Tensor:
    """w (C,) of the classes of all training ``labels`` (N,), whose mean over the images is 1."""
    share = torch.bincount(labels).clamp(min=1) / len(labels)
    weights = share**-power
    return weights / weights[labels].mean()


def turning_entropy(logits: Tensor, labels: Tensor, weights: Tensor, turned: float) -> Tensor:
    """The second term of logits (B, C) and labels (B,); ``weights`` are w, ``turned`` is a."""
    entropies = cross_entropy(logits, labels, reduction="none")
    return ((1 - turned + turned * weights[labels]) * entropies).mean()
