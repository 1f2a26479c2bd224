"""The model of communication against the sums that the engine asks for."""

from dataclasses import dataclass, field

import pytest
from communication import Cost, Link, Traffic, Update, traffic, update_seconds
from torch import Tensor

from ltdd_ray.bench.problem import Problem
from ltdd_ray.bench.sizes import Sizes
from ltdd_ray.distill.trajectory.matching import match
from ltdd_ray.distill.trajectory.shard import Shard
from ltdd_ray.nn.losses import soft_cross_entropy

SIZES = Sizes(width=4, depth=2, image_size=8, images=6, augmentation="")
PROBLEM = Problem(SIZES)
UPDATE = Update(
    parameters=PROBLEM.flat.layout.size,
    classifier_parameters=PROBLEM.flat.layout.classifier_size,
    set_values=6 * (3 * 8 * 8 + 10) + 1,
    segments=3,
    steps=(4, 2),
    batch=6,
)


@dataclass(frozen=True)
class Counting(Shard):
    payloads: list[int] = field(default_factory=list)

    def total(self, part: Tensor) -> Tensor:
        self.payloads.append(part.nbytes)
        return part


@pytest.mark.parametrize("mode", ["exact", "first_order"])
def test_the_model_counts_what_the_engine_sums(mode) -> None:
    shard = Counting(0, 2)
    for _ in range(UPDATE.segments):
        for scope, steps in zip(("backbone", "classifier"), UPDATE.steps):
            settings = {
                "steps": steps,
                "batch_size": 6,
                "scope": scope,
                "seed": 0,
                "hypergradient": mode,
                "shard": shard,
            }
            match(
                PROBLEM.flat,
                *PROBLEM.given,
                **settings,
                loss=soft_cross_entropy,
                augment=PROBLEM._augmentation,
            )
    update = Update(**{**vars(UPDATE), "exact": mode == "exact"})
    sent = traffic(update, "batch", 2)
    assert sent.all_reduces == len(shard.payloads) + 1  # the set's gradients, once
    assert sent.payload == sum(shard.payloads) + 4 * UPDATE.set_values


def test_sharing_segments_sends_the_sets_gradient_once() -> None:
    assert traffic(UPDATE, "trajectory", 64) == Traffic(1, 4 * UPDATE.set_values)
    assert traffic(UPDATE, "trajectory", 1) == traffic(UPDATE, "batch", 1) == Traffic(0, 0)


def test_seconds() -> None:
    free, cost = Link(float("inf"), 0.0), Cost.through(half=4.0, whole=7.0, batch=6)
    assert (cost.fixed, cost.per_image) == (1.0, 1.0)
    assert [update_seconds(UPDATE, cost, free, "trajectory", n) for n in (1, 2, 3, 8)] == [
        21,
        14,
        7,
        7,
    ]
    assert [update_seconds(UPDATE, cost, free, "batch", n) for n in (1, 2, 4, 6)] == [21, 12, 9, 6]
    assert Link(2.0, 0.5).seconds(Traffic(3, 8), 4) == pytest.approx(
        2 * 3 / 4 * 8 / 2 + 3 * 2 * 2 * 0.5
    )
