"""Greedy k-center selection (Sener & Savarese, ICLR 2018).

N images, F features.
"""

import torch
from torch import Tensor

from ltdd_ray.evaluate.selection import first_marked

# Relative. Two images are equally far from their mean, so rounding alone would choose one, and
# another processor the other.
TIE = 1e-4


def k_center(features: Tensor, count: int) -> list[int]:
    """Choose ``count`` rows of ``features`` (N, F), or all N; indices in the order of choice.

    The first is nearest to the mean. Each later one is farthest from those chosen. The lower index
    breaks ties, and distances that differ by TIE or less are ties.
    """
    to_mean = (features - features.mean(0)).square().sum(1)
    chosen = [first_marked(to_mean <= to_mean.min() * (1 + TIE))]
    to_chosen = torch.full_like(to_mean, torch.inf)
    while len(chosen) < min(count, len(features)):
        to_chosen = torch.minimum(to_chosen, (features - features[chosen[-1]]).square().sum(1))
        to_chosen[chosen[-1]] = -1  # not again, even where all others coincide with it
        chosen.append(first_marked(to_chosen >= to_chosen.max() * (1 - TIE)))
    return chosen
