"""The matching engine: inner SGD on synthetic images, and the hypergradient of its distance to an
expert.

    theta_{t+1} = theta_t - alpha g_t,  g_t = grad_theta L(theta_t; A_t(x_t), softmax(y_t)),  t < T
    l_S = ||theta_T - theta*||_S^2 / ||theta_0 - theta*||_S^2,   S = backbone, classifier or all

M synthetic images, B inner batch, C classes, P parameters, T inner steps; images x (M, K, H, W),
soft-label logits y (M, C), theta (P,). With S = classifier only theta_c moves. The backbone is then
frozen, its features are the inputs of the inner problem, and no second derivative enters it.

Three modes of the hypergradient, the gradient over x, y and alpha:

- ``exact``: the adjoint of the inner SGD. It keeps theta_0..theta_T and walks back with
  lambda_T = dl/dtheta_T, lambda_t = lambda_{t+1} - alpha d<lambda_{t+1}, g_t>/dtheta_t. Memory does
  not grow with T beyond the thetas. Where only the classifier moves, values that steps share are
  kept within a fixed budget.
- ``first_order``: the same walk with lambda held at lambda_T, as in TESLA (Cui et al., ICML 2023)
  and in the published script.
- ``unrolled``: autograd through all T steps, as in MTT (Cazenavette et al., CVPR 2022). Memory
  grows with T. It is the oracle for small T.

In the first two, processes may share every batch. Each process augments the whole batch, so all
draw the same numbers, and sends only its rows through the network. A sum over processes per step
completes g_t, and in ``exact`` another completes its derivative on the way back. theta and lambda
are then equal on all processes.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd import grad

from ltdd_ray.common.device import to_device
from ltdd_ray.common.seeding import generator
from ltdd_ray.distill.trajectory.shard import WHOLE, Shard
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.dispatch import classifier_passes, network_passes
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.networks import mixes_images
from ltdd_ray.nn.passes import Loss, Passes

Scope = Literal["backbone", "classifier", "all"]
Hypergradient = Literal["exact", "first_order", "unrolled"]


@dataclass(frozen=True)
class Match:
    """A matching loss and its gradients, all detached.

    loss (), images_grad (M, K, H, W), labels_grad (M, C), lr_grad (). ``distances`` holds the
    lengths () behind the loss, on S: ``student`` from theta_0 to theta_T, ``expert`` from theta_0
    to theta*, and ``left`` from theta_T to theta*.
    """

    loss: Tensor
    images_grad: Tensor
    labels_grad: Tensor
    lr_grad: Tensor
    distances: dict[str, Tensor]


@torch.inference_mode(False)
@torch.enable_grad()
def match(
    model: nn.Module | FlatModel,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    lr: Tensor | float,
    *,
    steps: int,
    batch_size: int,
    scope: Scope,
    loss: Loss,
    augment: Augmentation,
    seed: int,
    hypergradient: Hypergradient = "exact",
    micro_batch: int | None = None,
    shard: Shard = WHOLE,
) -> Match:
    """Train on the synthetic set from ``start`` for ``steps`` and compare with ``target``.

    Args:
        model: any module with a ``classifier``; its own weights are not used.
        start: theta_0 (P,), in the order of ``FlatModel(model).layout``.
        target: theta* (P,).
        images: x (M, K, H, W) in model space.
        labels: soft-label logits y (M, C).
        lr: alpha > 0.
        steps: T.
        batch_size: B, at most M. Batches are consecutive pieces of fresh permutations of the set.
        scope: S. With ``classifier``, only theta_c is trained.
        loss: L(logits (B, C), soft labels (B, C)) -> scalar.
        augment: A.
        seed: decides the batches and the augmentation of every step.
        micro_batch: the most images in one pass through the network, for batches that do not fit in
            memory. Not with ``unrolled``.
        shard: this process's part of every batch. Not with ``unrolled``. The loss is that of the
            whole batch; the gradients are this process's part and add up to those of one process.

    Raises ``ValueError`` where a size is wrong, and where ``start`` equals ``target`` on S: the
    loss is a ratio to their distance.
    """
    start, target, images, labels = map(_differentiable, (start, target, images, labels))
    flat = model if isinstance(model, FlatModel) else FlatModel(model)
    part = _part(flat, scope)
    if start.shape != (flat.layout.size,) or target.shape != start.shape:
        raise ValueError(
            f"start {tuple(start.shape)} and target {tuple(target.shape)} must be vectors of "
            f"{flat.layout.size} parameters"
        )
    scale = (start[part] - target[part]).square().sum()
    if (micro_batch or shard.count > 1) and (
        hypergradient == "unrolled" or mixes_images(flat.model)
    ):
        what = f"micro_batch={micro_batch}" if micro_batch else f"a batch in {shard.count} parts"
        raise ValueError(
            f"{what} needs hypergradient exact or first_order, and a network without batch norm"
        )
    if shard.count > min(batch_size, len(images)):
        raise ValueError(
            f"a batch of {min(batch_size, len(images))} images has no {shard.count} parts; use "
            "fewer processes"
        )
    if not scale > 0:
        raise ValueError("start and target are equal on the matched part; choose another segment")

    rate = _differentiable(torch.as_tensor(lr, dtype=start.dtype, device=start.device)).detach()
    steps_of = _Steps(
        images.detach(),
        labels.detach(),
        augment,
        seed,
        _batches(len(images), batch_size, steps, seed),
        shard,
    )
    walk = (
        _unrolled
        if hypergradient == "unrolled"
        else partial(_adjoint, first_order=hypergradient == "first_order")
    )
    if scope == "classifier":
        passes, distance = (
            classifier_passes(flat, start, loss, micro_batch),
            _Distance(slice(None), target[part], scale),
        )
        return walk(passes, start[part], rate, steps_of, distance)
    return walk(
        network_passes(flat, loss, micro_batch),
        start,
        rate,
        steps_of,
        _Distance(part, target, scale),
    )


def _differentiable(tensor: Tensor) -> Tensor:
    """``tensor``, copied where it was made in inference mode, which autograd refuses."""
    return tensor.clone() if tensor.is_inference() else tensor


def _part(flat: FlatModel, scope: Scope) -> slice:
    backbone = flat.layout.backbone_size
    return {
        "backbone": slice(0, backbone),
        "classifier": slice(backbone, None),
        "all": slice(None),
    }[scope]


def _batches(count: int, batch_size: int, steps: int, seed: int) -> list[Tensor]:
    """Indices (B,) of each step: the whole set in order, or pieces of fresh permutations."""
    if batch_size >= count:
        return [torch.arange(count)] * steps
    order = generator(seed, "batches")
    pieces: list[Tensor] = []
    while len(pieces) < steps:
        pieces += torch.randperm(count, generator=order).split(batch_size)[: count // batch_size]
    return pieces[:steps]


@dataclass(frozen=True)
class _Steps:
    """The inputs of every inner step, computed anew at each use; none is kept."""

    images: Tensor
    labels: Tensor
    augment: Augmentation
    seed: int
    batches: list[Tensor]
    shard: Shard

    def __len__(self) -> int:
        return len(self.batches)

    def inputs(self, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(A_t(x_t), softmax(y_t)): the shard's rows of B, differentiable in the full sets."""
        index, rows = (
            to_device(self.batches[step], images.device),
            self.shard.rows(len(self.batches[step])),
        )
        return self.augment(images[index], generator(self.seed, "augment", step))[rows], labels[
            index[rows]
        ].softmax(-1)


@dataclass(frozen=True)
class _Distance:
    """l_S = ||theta - theta*||_S^2 / scale."""

    part: slice
    target: Tensor
    scale: Tensor

    def __call__(self, theta: Tensor) -> Tensor:
        return (theta[self.part] - self.target[self.part]).square().sum() / self.scale

    def gradient(self, theta: Tensor) -> Tensor:
        """dl_S/dtheta, the shape of theta."""
        bar = torch.zeros_like(theta)
        bar[self.part] = (theta[self.part] - self.target[self.part]) * (2 / self.scale)
        return bar

    def lengths(self, start: Tensor, theta: Tensor) -> dict[str, Tensor]:
        """:attr:`Match.distances` of a walk from ``start`` to ``theta``."""
        ways = {
            "student": theta - start,
            "expert": self.target - start,
            "left": theta - self.target,
        }
        return {name: way[self.part].norm().detach() for name, way in ways.items()}


def _adjoint(
    passes: Passes,
    start: Tensor,
    rate: Tensor,
    steps: _Steps,
    distance: _Distance,
    first_order: bool,
) -> Match:
    weight = steps.shard.weight(
        len(steps.batches[0])
    )  # the passes' means are over the shard's rows
    rate, total = rate * weight, steps.shard.total
    thetas = [start.detach()]
    with torch.no_grad():
        for t in range(len(steps)):
            step = rate * passes.gradient(thetas[-1], *steps.inputs(t, steps.images, steps.labels))
            thetas.append(thetas[-1] - total(step))

    value, lengths = distance(thetas[-1]), distance.lengths(start, thetas[-1])
    adjoint = distance.gradient(thetas.pop())
    images, labels = steps.images.requires_grad_(), steps.labels.requires_grad_()
    images_grad, labels_grad, lr_grad = (
        torch.zeros_like(images),
        torch.zeros_like(labels),
        torch.zeros_like(rate),
    )
    for t in reversed(range(len(steps))):
        given = steps.inputs(t, images, labels)
        # Cut the graph: second derivatives stay in the network, first ones go on to the images.
        inputs, soft_label = (tensor.detach() for tensor in given)
        along, *bars, theta_bar = passes.hvp(
            thetas.pop(), adjoint, inputs, soft_label, not first_order
        )
        images_bar, labels_bar = grad(given, (images, labels), bars)
        images_grad -= rate * images_bar
        labels_grad -= rate * labels_bar
        lr_grad -= weight * along
        if theta_bar is not None:
            adjoint = adjoint - total(rate * theta_bar)
    return Match(value, images_grad, labels_grad, lr_grad, lengths)


def _unrolled(
    passes: Passes, start: Tensor, rate: Tensor, steps: _Steps, distance: _Distance
) -> Match:
    images, labels, rate = (
        steps.images.requires_grad_(),
        steps.labels.requires_grad_(),
        rate.requires_grad_(),
    )
    theta = start.detach().requires_grad_()
    for t in range(len(steps)):
        (step,) = grad(
            passes.value(theta, *steps.inputs(t, images, labels)), theta, create_graph=True
        )
        theta = theta - rate * step
    value = distance(theta)
    images_grad, labels_grad, lr_grad = grad(value, (images, labels, rate))
    return Match(value.detach(), images_grad, labels_grad, lr_grad, distance.lengths(start, theta))
