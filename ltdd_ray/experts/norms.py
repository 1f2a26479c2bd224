"""Norms of the rows of an expert's classifier, one row per class.

Training on long-tailed data makes the rows of large classes longer; the classifier stage evens them
out. Pc classifier parameters, C classes.
"""

import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.store import Stage, TrajectoryStore

STAGES: tuple[Stage, ...] = ("representation", "classifier")


def expert_classifier_norms(config: RunConfig, train: LongTailedDataset) -> dict[str, list[float]]:
    """Norms (C,) of the rows at the last epoch of each stage, averaged over the run's experts.

    Empty if the store cannot be read, for example because it was deleted: only a chart needs them.
    """
    flat = expert_network(config, train, 0)
    norms: dict[str, list[float]] = {}
    try:
        store = TrajectoryStore.open(config.store_uri, expect=expectation(config, train))
        for stage in STAGES:
            rows = []
            for expert in range(config.experts.count):
                theta_c = store.column(expert, stage, store.epochs(expert, stage)[-1], "classifier")
                rows.append(flat.head_weight(theta_c.float()).norm(dim=1))
            norms[stage] = torch.stack(rows).mean(0).tolist()
    except UserError:
        return {}
    return norms
