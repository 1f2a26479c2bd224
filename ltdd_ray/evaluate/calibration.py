"""Calibrating soft labels after distillation by logit adjustment (ADSA, arXiv 2511.17914).

Experts of long-tailed images give tail images too little confidence. ADSA changes the logits f of
a distilled image to f - tau log(pi), where pi is the class prior of the training images. tau is the
value that makes all classes equally confident on the distilled images.

Deviations: ADSA takes f from a teacher. Here f is the log of the stored labels, which equals the
learned logits up to a constant per image. So calibration needs only the set and the prior, no
network and no test image. The confidence of a class is the mean probability that its own images'
labels give it. The largest probability would not work: it goes to 1 for every class as tau grows.

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
    """Adjust ``soft_labels`` (M, C) so that confidence differs least between classes.

    Args:
        classes: (M,), the class of each image.
        prior: (C,), the share of each class among the training images.

    tau lies within LARGEST_TAU of 0, to 4e-4. It is 0 where no value is better, for example with a
    balanced prior.
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
    """softmax(log p - tau log pi) of each row p of ``soft_labels`` (M, C), in their dtype.

    A probability of 0 stays 0.
    """
    logits = soft_labels.double().log() - tau * prior.double().log()
    return logits.softmax(-1).to(soft_labels.dtype)


def confidence_spread(soft_labels: Tensor, classes: Tensor) -> float:
    """Standard deviation of the confidence over the classes that have images."""
    own = soft_labels.double().gather(1, classes[:, None])[:, 0]
    counts = torch.bincount(classes)
    means = (
        torch.zeros(len(counts), dtype=torch.float64, device=own.device).index_add(0, classes, own)
        / counts
    )
    return float(means[counts > 0].std(correction=0))
