"""Expert norms from a store that holds trajectories written by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.config.identity import store_fingerprint
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.experts.norms import expert_classifier_norms
from ltdd_ray.experts.plan import expert_network, plan_trajectories
from ltdd_ray.store import TrajectoryHeader, TrajectoryWriter

Tiny = Callable[..., RunConfig]


def test_norms_are_means_over_experts_at_the_last_epoch(tmp_path: Path, tiny: Tiny) -> None:
    config = tiny(
        tmp_path, experts={"count": 2, "representation": {"epochs": 5}, "classifier": {"epochs": 3}}
    )
    train = prepare_data(config).train
    assert expert_classifier_norms(config, train) == {}
    layout = expert_network(config, train, 0).layout
    weight = layout.parameters[-2]
    rows = np.arange(1, 11, dtype=np.float32)  # class k's row is k + 1 in every place
    for task in plan_trajectories(config, train):
        header = TrajectoryHeader(
            expert=task.expert,
            stage=task.stage,
            identity=task.identity,
            config_fingerprint=store_fingerprint(config),
            dataset_fingerprint=train.fingerprint,
            layout=layout,
            class_counts=tuple(train.class_counts.tolist()),
            seed=config.seed,
        )
        last = (task.expert + 1) * (1 if task.stage == "representation" else 10)
        with TrajectoryWriter(config.store_uri, header) as writer:
            for epoch, scale in ((0, 99), (2, last)):
                theta = np.ones(layout.size, np.float32)
                theta[weight.offset : weight.offset + weight.size] = np.repeat(
                    rows * scale, weight.shape[1]
                )
                parts = {"classifier": theta[layout.backbone_size :]}
                if task.stage == "representation":
                    parts["backbone"] = theta[: layout.backbone_size]
                writer.append(epoch, **parts, metrics={})
    found = expert_classifier_norms(config, train)
    unit = rows * weight.shape[1] ** 0.5
    assert found["representation"] == pytest.approx((1.5 * unit).tolist())
    assert found["classifier"] == pytest.approx((15 * unit).tolist())

    more = tiny(
        tmp_path, experts={"count": 3, "representation": {"epochs": 5}, "classifier": {"epochs": 3}}
    )
    assert expert_classifier_norms(more, train) == {}
