"""Greedy k-center selection (Sener & Savarese, ICLR 2018) in the features of an expert, by class.

N images, C classes, F features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import Images
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.store import TrajectoryStore

EXPERT = 0

# Relative. Two images are equally far from their mean, so rounding alone would choose one, and
# another processor the other.
TIE = 1e-4


def k_center(features: Tensor, count: int) -> list[int]:
    """Choose ``count`` rows of ``features`` (N, F), or all N; indices in the order of choice.

    The first is nearest to the mean. Each later one is farthest from those chosen. The lower index
    breaks ties, and distances that differ by TIE or less are ties.
    """
    to_mean = (features - features.mean(0)).square().sum(1)
    chosen = [_first(to_mean <= to_mean.min() * (1 + TIE))]
    to_chosen = torch.full_like(to_mean, torch.inf)
    while len(chosen) < min(count, len(features)):
        to_chosen = torch.minimum(to_chosen, (features - features[chosen[-1]]).square().sum(1))
        to_chosen[chosen[-1]] = -1  # not again, even where all others coincide with it
        chosen.append(_first(to_chosen >= to_chosen.max() * (1 - TIE)))
    return chosen


def _first(marked: Tensor) -> int:
    """The lowest index that is marked in (N,)."""
    return int(torch.nonzero(marked)[0, 0])


def k_center_selection(features: Tensor, labels: Tensor, budget: Sequence[int]) -> list[int]:
    """``budget`` (C,) indices into ``features`` (N, F) for each class of ``labels`` (N,).

    A class with fewer images repeats them.
    """
    selected: list[int] = []
    for k, wanted in enumerate(budget):
        members = torch.nonzero(labels == k)[:, 0]
        order = members[k_center(features[members], wanted)]
        selected += order.repeat(-(-wanted // len(order)))[:wanted].tolist()
    return selected


@torch.no_grad()
def expert_features(config: RunConfig, train: LongTailedDataset, images: Images) -> Tensor:
    """Features (N, F) of ``images`` (N, K, H, W) under representation expert 0 at its last epoch.

    Raises ``UserError`` where the trajectory store lacks that expert.
    """
    flat = expert_network(config, train, EXPERT)
    flat.model.to(images.device)
    store = TrajectoryStore.open(config.store_uri, expect=expectation(config, train))
    last = store.epochs(EXPERT, "representation")[-1]
    end = store.segment(EXPERT, "representation", last, last)
    theta = torch.cat([end.start_backbone, end.start_classifier]).to(images.device, torch.float32)
    return torch.cat([flat.features(theta, part) for part in images.split(512)])
