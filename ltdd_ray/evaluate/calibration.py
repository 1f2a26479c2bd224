"""Calibrating soft labels after distillation by logit adjustment (ADSA, arXiv 2511.17914).

Experts of long-tailed images label tail images with too little confidence. ADSA lowers the logits f of a distilled image to
f - tau log(pi), pi being the class prior of the training images, with the tau that makes classes equally confident on the
distilled images. ADSA's f is a teacher's output. Here f is the log of the labels stored with the set: up to a constant per
image, which softmax forgets, those are the logits that distillation learned. So nothing but the set and the prior is asked,
neither a network nor a test image.

The confidence of a class is here the mean probability that its own images' labels give to it. The largest probability would not
do: it goes to 1 for every class as tau grows, so that the spread would vanish at infinity.

M images, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST_TAU = 3.0
GRID, ROUNDS = 41, 3  # each round looks at GRID values of tau and narrows their range twentyfold
SMALLEST_GAIN = 1e-9  # of the spread, in probability; less is rounding


class Calibration(NamedTuple):
    """The ``tau`` found and the labels (M, C) it gives."""

    tau: float
    soft_labels: Tensor


def calibrate(soft_labels: Tensor, classes: Tensor, prior: Tensor) -> Calibration:
    """The adjustment of ``soft_labels`` (M, C) with the least spread of confidence over the classes.

    Args:
        classes: (M,), the class that each image stands for. prior: (C,), the share of each class among the training images.

    tau lies in -LARGEST_TAU..LARGEST_TAU, to 4e-4, and is 0 where no other is better, as with a balanced prior.
    """
    low, high = -LARGEST_TAU, LARGEST_TAU
    best = 0.0
    for _ in range(ROUNDS):
        grid = torch.linspace(low, high, GRID, dtype=torch.float64)
        spreads = [
            confidence_spread(adjust(soft_labels, prior, tau), classes) for tau in grid.tolist()
        ]
        best = float(grid[spreads.index(min(spreads))])
        step = (high - low) / (GRID - 1)
        low, high = max(best - step, -LARGEST_TAU), min(best + step, LARGEST_TAU)
    gain = confidence_spread(soft_labels, classes) - confidence_spread(
        adjust(soft_labels, prior, best), classes
    )
    tau = best if gain > SMALLEST_GAIN else 0.0
    return Calibration(tau, adjust(soft_labels, prior, tau))


def adjust(soft_labels: Tensor, prior: Tensor, tau: float) -> Tensor:
    """softmax(log p - tau log pi) of each row p of ``soft_labels`` (M, C), in their dtype; a probability of 0 stays 0."""
    logits = soft_labels.double().log() - tau * prior.double().log()
    return logits.softmax(-1).to(soft_labels.dtype)


def confidence_spread(soft_labels: Tensor, classes: Tensor) -> float:
    """Standard deviation, over the classes with images, of the mean probability (M, C) that images of a class have of it."""
    own = soft_labels.double().gather(1, classes[:, None])[:, 0]
    counts = torch.bincount(classes)
    means = (
        torch.zeros(len(counts), dtype=torch.float64, device=own.device).index_add(0, classes, own)
        / counts
    )
    return float(means[counts > 0].std(correction=0))
