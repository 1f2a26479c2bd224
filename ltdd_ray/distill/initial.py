"""Where a synthetic set starts: which real images it takes, and the labels that experts give them.

N training images, E experts, C classes, M chosen images, K x H x W image shape.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ltdd_ray.common.seeding import generator
from ltdd_ray.data.budget import repeated
from ltdd_ray.data.prepare import Images
from ltdd_ray.nn.augment import Augmentation

ONE_HOT_MARGIN = 200.0  # exp(-200) is 0 in float32
MAX_SENTENCES = 20  # of `describe_initial`


def choose_initial(
    right: Tensor,
    labels: Tensor,
    budget: Sequence[int],
    seed: int,
    fill: Literal["others", "repeats"] = "others",
) -> tuple[Tensor, Tensor]:
    """Choose the real images that a set starts from.

    Images that most experts predict correctly come first, in random order. A class that lacks
    such images takes its other images, and a class that lacks images repeats them.

    Args:
        right: (E, N) bool, which expert predicts which training image correctly. labels: (N,).
        budget: (C,), images of each class.
        fill: what a class takes that lacks such images: its other images, or repeats of the
            correct ones. Without any correct image it takes others in both cases.

    Returns:
        index (M,) into the training images, class by class, and repeat (M,) bool, which marks the
        repeated ones.
    """
    trusted = right.double().mean(0) >= 0.5
    chosen: list[Tensor] = []
    repeats: list[Tensor] = []
    for k, wanted in enumerate(budget):
        members = torch.nonzero(labels == k)[:, 0].cpu()
        draw = generator(seed, "initial-images", k)
        members = members[torch.randperm(len(members), generator=draw)]
        known = trusted.cpu()[members]
        ordered = torch.cat([members[known], members[~known]])
        if fill == "repeats" and bool(known.any()):
            ordered = members[known]
        chosen.append(repeated(ordered, wanted))
        repeats.append(torch.arange(wanted) >= len(ordered))
    return torch.cat(chosen).to(labels.device), torch.cat(repeats)


def take_images(
    images: Images, index: Tensor, repeat: Tensor, augment: Augmentation, seed: int
) -> Tensor:
    """The images (M, K, H, W) at ``index`` (M,); each repeat is augmented, so no two are equal."""
    chosen = images[index].clone()
    for at in torch.nonzero(repeat)[:, 0].tolist():
        chosen[at] = augment(chosen[at : at + 1], generator(seed, "initial-repeats", at))[0]
    return chosen


def expert_labels(
    logits: Tensor,
    right: Tensor,
    rule: Literal["right_experts", "one_expert", "all_experts"] = "right_experts",
) -> Tensor:
    """Soft-label logits (M, C): the mean over the experts that ``rule`` names.

    Args:
        logits: (E, M, C). right: (E, M) bool. Where no expert is right, all of them count.
        rule: the experts that are right, expert 0 alone, or all.
    """
    if rule == "one_expert":
        return logits[0]
    if rule == "all_experts":
        return logits.mean(0)
    vote = right.to(logits.dtype)
    vote = torch.where(vote.sum(0) > 0, vote, torch.ones_like(vote))
    return (logits * vote[..., None]).sum(0) / vote.sum(0)[:, None]


def certain_logits(labels: Tensor, num_classes: int) -> Tensor:
    """Logits (M, C) of hard labels (M,) that matching cannot change.

    Their softmax is exactly one-hot and its derivative exactly zero.
    """
    return ONE_HOT_MARGIN * one_hot(labels, num_classes).float()


def describe_initial(
    right: Tensor,
    labels: Tensor,
    budget: Sequence[int],
    class_names: Sequence[str],
    fill: Literal["others", "repeats"] = "others",
) -> list[str]:
    """A sentence for each class with too few correctly predicted images, MAX_SENTENCES at most."""
    trusted = right.double().mean(0) >= 0.5
    sentences = []
    for k, (name, wanted) in enumerate(zip(class_names, budget)):
        known, there = int(trusted[labels == k].sum()), int((labels == k).sum())
        if known < wanted and fill == "repeats" and known:
            sentences.append(
                f"class {name}: expert 0 predicts only {known} of {wanted} initial images "
                f"correctly; the rest are {wanted - known} augmented repeats"
            )
        elif known < wanted:
            others, repeats = min(wanted, there) - known, max(wanted - there, 0)
            filled = f"{others} other images"
            filled += f" and {repeats} augmented repeats" if repeats else ""
            sentences.append(
                f"class {name}: the experts predict only {known} of {wanted} initial images "
                f"correctly; the rest are {filled}"
            )
    if len(sentences) > MAX_SENTENCES:
        more = len(sentences) - MAX_SENTENCES
        sentences[MAX_SENTENCES:] = [f"and {more} more classes with too few such images"]
    return sentences
