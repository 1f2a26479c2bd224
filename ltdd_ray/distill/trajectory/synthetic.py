"""The learnable set and where it starts from.

M synthetic images, C classes, E experts, N training images, K x H x W image shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ltdd_ray.common.seeding import generator
from ltdd_ray.config import DistillConfig
from ltdd_ray.data.prepare import Images
from ltdd_ray.distill.trajectory.matching import Match
from ltdd_ray.nn.augment import Augmentation

ONE_HOT_MARGIN = 200.0  # exp(-200) is 0 in float32
MOST_SENTENCES = 20  # of `describe_initial`


class SyntheticSet(nn.Module):
    """Images x (M, K, H, W), soft-label logits y (M, C) and log alpha, the parameters that distillation learns.

    The rate is learned as log alpha, so it stays positive whatever the step.
    """

    classes: Tensor

    def __init__(self, images: Tensor, labels: Tensor, classes: Tensor, syn_lr: float) -> None:
        super().__init__()
        self.images = nn.Parameter(images)
        self.labels = nn.Parameter(labels)
        self.log_lr = nn.Parameter(torch.tensor(syn_lr, device=images.device).log())
        self.register_buffer("classes", classes)

    @property
    def syn_lr(self) -> Tensor:
        return self.log_lr.detach().exp()

    def forward(self, gradients: "Gradients") -> Tensor:
        """<parameters, gradients>: its backward leaves ``gradients`` in ``.grad``, averaged over workers under DDP.

        ``torch.autograd.grad`` through a DDP module would average nothing, so what ``match`` returns goes this way round.
        """
        dot = (self.images * gradients.images).sum() + (self.labels * gradients.labels).sum()
        return dot + self.log_lr * gradients.log_lr

    def optimiser(self, config: DistillConfig) -> torch.optim.SGD:
        groups = [
            {"params": [self.images], "lr": config.lr_image, "momentum": config.momentum_image},
            {"params": [self.labels], "lr": config.lr_label, "momentum": config.momentum_label},
            {"params": [self.log_lr], "lr": config.lr_syn_lr, "momentum": config.momentum_syn_lr},
        ]
        return torch.optim.SGD(groups)

    def limit_steps(self, config: DistillConfig) -> None:
        """Shorten gradients whose step, without momentum, would be longer than the config allows.

        A rate that does not fit the data then makes slow or wasteful progress instead of leaving the finite numbers.
        """
        for parameter, rate, largest in (
            (self.images, config.lr_image, config.largest_image_step * self.images.numel() ** 0.5),
            (self.log_lr, config.lr_syn_lr, config.largest_rate_step),
        ):
            if rate > 0:
                nn.utils.clip_grad_norm_([parameter], largest / rate)


@dataclass
class Gradients:
    """A weighted sum of matching gradients, in the shapes of :class:`SyntheticSet`'s parameters."""

    images: Tensor
    labels: Tensor
    log_lr: Tensor

    @classmethod
    def zeros(cls, synthetic: SyntheticSet) -> "Gradients":
        return cls(
            *(torch.zeros_like(p) for p in (synthetic.images, synthetic.labels, synthetic.log_lr))
        )

    def add(self, match: Match, weight: float, syn_lr: Tensor) -> None:
        self.images += weight * match.images_grad
        self.labels += weight * match.labels_grad
        self.log_lr += weight * syn_lr * match.lr_grad  # dl/dlog(alpha) = alpha dl/dalpha


def certain_logits(labels: Tensor, num_classes: int) -> Tensor:
    """Logits (M, C) of hard labels (M,), which stay as they are: their softmax is exactly one-hot, its derivative exactly zero."""
    return ONE_HOT_MARGIN * one_hot(labels, num_classes).float()


def choose_initial(
    right: Tensor, labels: Tensor, budget: Sequence[int], seed: int
) -> tuple[Tensor, Tensor]:
    """Pick real images to start from.

    Args:
        right: (E, N) bool, which expert predicts which training image correctly. labels: (N,).
        budget: (C,), images of each class.

    Returns:
        index (M,) and repeat (M,) bool, class by class. Images that most experts predict correctly come first, in random order;
        a class short of them is filled by its other images, and one short of images by repeats, which ``repeat`` marks.
    """
    trusted = right.double().mean(0) >= 0.5
    chosen: list[Tensor] = []
    repeats: list[Tensor] = []
    for k, wanted in enumerate(budget):
        members = torch.nonzero(labels == k)[:, 0].cpu()
        members = members[
            torch.randperm(len(members), generator=generator(seed, "initial-images", k))
        ]
        known = trusted.cpu()[members]
        ordered = torch.cat([members[known], members[~known]])
        chosen.append(ordered.repeat(-(-wanted // len(ordered)))[:wanted])
        repeats.append(torch.arange(wanted) >= len(ordered))
    return torch.cat(chosen).to(labels.device), torch.cat(repeats)


def initial_labels(logits: Tensor, right: Tensor) -> Tensor:
    """Soft-label logits (M, C): the mean of those (E, M, C) of the experts that are right (E, M), or of all where none is."""
    vote = right.to(logits.dtype)
    vote = torch.where(vote.sum(0) > 0, vote, torch.ones_like(vote))
    return (logits * vote[..., None]).sum(0) / vote.sum(0)[:, None]


def describe_initial(
    right: Tensor, labels: Tensor, budget: Sequence[int], class_names: Sequence[str]
) -> list[str]:
    """One sentence per class that has not enough correctly predicted images, MOST_SENTENCES at most, for the run to say."""
    trusted = right.double().mean(0) >= 0.5
    said = []
    for k, (name, wanted) in enumerate(zip(class_names, budget)):
        known, there = int(trusted[labels == k].sum()), int((labels == k).sum())
        if known < wanted:
            others, repeats = min(wanted, there) - known, max(wanted - there, 0)
            filled = f"{others} other images" + (
                f" and {repeats} augmented repeats" if repeats else ""
            )
            said.append(
                f"class {name}: {known} of {wanted} initial images are predicted correctly; filled by {filled}"
            )
    if len(said) > MOST_SENTENCES:
        said[MOST_SENTENCES:] = [
            f"and {len(said) - MOST_SENTENCES} classes more that had to be filled"
        ]
    return said


def initial_images(
    images: Images, index: Tensor, repeat: Tensor, augment: Augmentation, seed: int
) -> Tensor:
    """Images (M, K, H, W) for the chosen ``index`` (M,), repeats being augmented so that no two are equal."""
    chosen = images[index].clone()
    for at in torch.nonzero(repeat)[:, 0].tolist():
        chosen[at] = augment(chosen[at : at + 1], generator(seed, "initial-repeats", at))[0]
    return chosen
