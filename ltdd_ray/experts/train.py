"""The two training stages of an expert, with all parameters in one vector.

N images, B batch, C classes, F features, P parameters (Pb backbone, Pc classifier).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from ltdd_ray.common.device import to_device
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import ClassifierStage, RepresentationStage
from ltdd_ray.data.prepare import Images
from ltdd_ray.experts.sam import sharpen
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.dispatch import network_passes
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.passes import Loss


@dataclass(frozen=True)
class Epoch:
    """The parameters (P,) or (Pc,) after ``epoch`` epochs.

    ``loss`` and ``accuracy`` are means over the augmented batches of that epoch. Epoch 0 is the
    start of the stage; its loss and accuracy are None.
    """

    epoch: int
    theta: Tensor
    loss: float | None
    accuracy: float | None


class Tally:
    """Mean loss and accuracy of an epoch, summed on the device to avoid a wait per batch."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._count = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        right = (logits.argmax(-1) == labels).sum()
        self._sums += torch.stack([loss.detach() * len(labels), right]).double()
        self._count += len(labels)

    def counting(self, criterion: Callable[[Tensor, Tensor], Tensor]) -> Loss:
        """``criterion``, which also adds what it is called with."""

        def counted(logits: Tensor, labels: Tensor) -> Tensor:
            loss = criterion(logits, labels)
            self.add(loss, logits, labels)
            return loss

        return counted

    def result(self, where: str) -> tuple[float, float]:
        loss, right = self._sums.tolist()
        if not loss < float("inf"):
            raise NonFiniteLossError(f"{where}: the loss is not finite; lower the stage's lr")
        return loss / self._count, right / self._count


def representation_stage(
    stage: RepresentationStage,
    flat: FlatModel,
    images: Images,
    labels: Tensor,
    augment: Augmentation,
    seed: int,
    expert: int,
    criterion: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Iterator[Epoch]:
    """Train the whole network on the long-tailed images; yields epochs 0..stage.epochs.

    Args:
        images: (N, K, H, W) in model space.
        labels: int64 (N,).
        criterion: maps logits (B, C) and labels (B,) to a scalar loss.

    Raises ``NonFiniteLossError`` if an epoch's loss is not finite.
    """
    theta = flat.initial().to(images.device)
    optimiser = SGD([theta], stage.lr, stage.momentum, weight_decay=stage.weight_decay)
    steps = stage.epochs * -(-len(images) // stage.batch_size)
    falling = CosineAnnealingLR(optimiser, steps) if stage.schedule == "cosine" else None
    passes = network_passes(flat, criterion)
    yield Epoch(0, theta.clone(), None, None)
    for epoch in range(1, stage.epochs + 1):
        draw = generator(seed, "representation", expert, epoch)
        tally = Tally(images.device)
        tallied = network_passes(flat, tally.counting(criterion))
        for index in torch.randperm(len(images), generator=draw).split(stage.batch_size):
            index = to_device(index, images.device)
            batch, target = augment(images[index], draw), labels[index]
            theta.grad = sharpen(
                tallied.gradient(theta, batch, target),
                partial(passes.gradient, images=batch, soft_label=target),
                theta,
                stage.sharpness,
                stage.rho,
                stage.alpha,
                stage.adaptive,
            )
            optimiser.step()
            if falling is not None:
                falling.step()
        yield Epoch(
            epoch,
            theta.clone(),
            *tally.result(f"expert {expert}, representation epoch {epoch}"),
        )


def classifier_stage(
    stage: ClassifierStage,
    flat: FlatModel,
    theta: Tensor,
    images: Images,
    labels: Tensor,
    augment: Augmentation,
    seed: int,
    expert: int,
) -> Iterator[Epoch]:
    """Fine-tune theta_c on class-balanced samples; yields epochs 0..stage.epochs.

    The backbone stays frozen at ``theta`` (P,). An epoch has C max_k n_k images, as in the
    class-aware sampler of the paper. Raises ``NonFiniteLossError`` if a loss is not finite.
    """
    head = flat.split(theta)[1].detach().clone().requires_grad_()
    optimiser = SGD([head], stage.lr, stage.momentum, weight_decay=stage.weight_decay)
    cap = _row_cap(flat, head, stage.max_norm)
    yield Epoch(0, head.detach().clone(), None, None)
    for epoch in range(1, stage.epochs + 1):
        draw = generator(seed, "classifier", expert, epoch)
        tally = Tally(images.device)
        for index in balanced_indices(labels.cpu(), stage.samples_per_class, draw).split(
            stage.batch_size
        ):
            index = to_device(index, images.device)
            with torch.no_grad():
                features = flat.features(theta, augment(images[index], draw))
            logits = flat.head(head, features)
            loss = cross_entropy(logits, labels[index])
            tally.add(loss, logits, labels[index])
            (here,) = grad(loss, head)

            def gradient(
                at: Tensor, features: Tensor = features, target: Tensor = labels[index]
            ) -> Tensor:
                at = at.detach().requires_grad_()
                return grad(cross_entropy(flat.head(at, features), target), at)[0]

            head.grad = sharpen(
                here,
                gradient,
                head.detach(),
                stage.sharpness,
                stage.rho,
                stage.alpha,
                stage.adaptive,
            )
            optimiser.step()
            if cap is not None:
                _cap_rows(flat, head, cap)
        yield Epoch(
            epoch,
            head.detach().clone(),
            *tally.result(f"expert {expert}, classifier epoch {epoch}"),
        )


def balanced_indices(labels: Tensor, samples_per_class: int, draw: torch.Generator) -> Tensor:
    """One epoch of the class-aware sampler (Kang et al., ICLR 2020).

    Each round visits all classes in a new random order and takes ``samples_per_class`` images of
    each. No image of a class repeats before all its images were used, in random order. Returns
    indices into labels (N,); there are max_k n_k of each class, rounded up to whole rounds.
    """
    counts = torch.bincount(labels)
    num_classes, largest = len(counts), int(counts.max())
    rounds = -(-largest // samples_per_class)
    wanted = rounds * samples_per_class
    queues = torch.empty(num_classes, wanted, dtype=torch.int64)
    for k in range(num_classes):
        members = torch.nonzero(labels == k)[:, 0]
        passes = [
            members[torch.randperm(len(members), generator=draw)]
            for _ in range(-(-wanted // len(members)))
        ]
        queues[k] = torch.cat(passes)[:wanted]
    order = torch.stack(
        [torch.randperm(num_classes, generator=draw) for _ in range(rounds)]
    )  # (rounds, C)
    blocks = queues.view(num_classes, rounds, samples_per_class)
    return blocks[order, torch.arange(rounds)[:, None]].flatten()


def _row_cap(flat: FlatModel, head: Tensor, share: float | None) -> Tensor | None:
    """The largest row norm that MaxNorm allows (Alshammari et al., CVPR 2022).

    ``share`` of the way from the smallest to the largest norm at the start of the stage.
    """
    if share is None:
        return None
    norms = flat.head_weight(head.detach()).norm(dim=1)
    return norms.min() + share * (norms.max() - norms.min())


@torch.no_grad()
def _cap_rows(flat: FlatModel, head: Tensor, cap: Tensor) -> None:
    weight = flat.head_weight(head)
    weight *= (cap / weight.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
