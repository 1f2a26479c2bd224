"""What selections of real images share: the expert's features, the budget by class, ties.

N images, C classes, F features.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import repeated
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import Images
from ltdd_ray.distill.trajectory.start import order_of_parts
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.store import TrajectoryStore

EXPERT = 0


def select_by_class(
    choose: Callable[[Tensor, int], list[int]],
    features: Tensor,
    labels: Tensor,
    budget: Sequence[int],
) -> list[int]:
    """``budget`` (C,) indices into ``features`` (N, F) for each class of ``labels`` (N,).

    ``choose`` maps the features of a class and a count to at most that many of its rows. A class
    with fewer images repeats them.
    """
    selected: list[int] = []
    for k, wanted in enumerate(budget):
        members = torch.nonzero(labels == k)[:, 0]
        selected += repeated(members[choose(features[members], wanted)], wanted).tolist()
    return selected


def first_marked(marked: Tensor) -> int:
    """The lowest index that is marked in (N,)."""
    return int(torch.nonzero(marked)[0, 0])


@torch.no_grad()
def expert_features(config: RunConfig, train: LongTailedDataset, images: Images) -> Tensor:
    """Features (N, F) of ``images`` (N, K, H, W) under representation expert 0 at its last epoch.

    Raises ``UserError`` where the trajectory store lacks that expert.
    """
    flat = expert_network(config, train, EXPERT)
    flat.model.to(images.device)
    store = TrajectoryStore.open(config.store_uri, expect=expectation(config, train))
    theta = store.theta(EXPERT, "representation").to(images.device, torch.float32)
    order = order_of_parts(flat, len(images), config.seed)
    parts = (images[index.to(images.device)] for index in order.split(512))
    return torch.cat([flat.features(theta, part) for part in parts])[order.argsort()]
