"""What the workers of one update send each other, and how long the update takes on how many: a model, and no measurement.

Payload is what an all-reduce is given on each worker; a ring then sends 2 (n - 1) / n of it over every worker's link. Not counted:
the losses, some hundred bytes per update.
"""

from dataclasses import dataclass
from math import ceil, log2
from typing import Literal

FLOAT = 4  # bytes
BUCKET = 25 * 2**20  # bytes that DDP sends at once

Parallel = Literal["trajectory", "batch"]


@dataclass(frozen=True, kw_only=True)
class Update:
    """What decides the traffic of an update.

    Attributes:
        parameters, classifier_parameters: P and Pc; the classifier phase moves only the latter.
        set_values: numbers that the set learns, M K H W + M C + 1.
        steps: T of the representation and of the classifier phase. batch: B, of both phases.
        exact: whether the walk back needs sums too.
    """

    parameters: int
    classifier_parameters: int
    set_values: int
    segments: int
    steps: tuple[int, int]
    batch: int
    exact: bool = True


@dataclass(frozen=True)
class Traffic:
    """Of one update: how many all-reduces, and their payload in bytes."""

    all_reduces: int
    payload: int


def traffic(update: Update, parallel: Parallel, workers: int) -> Traffic:
    if workers == 1:
        return Traffic(0, 0)
    once = FLOAT * update.set_values
    calls, payload = ceil(once / BUCKET), once
    if parallel == "batch":
        ways = 2 if update.exact else 1
        for steps, size in zip(update.steps, (update.parameters, update.classifier_parameters)):
            calls += update.segments * steps * ways
            payload += update.segments * steps * ways * FLOAT * size
    return Traffic(calls, payload)


@dataclass(frozen=True)
class Link:
    """``bandwidth`` of each worker's link in bytes per second; ``latency`` of one message in seconds."""

    bandwidth: float
    latency: float

    def seconds(self, sent: Traffic, workers: int) -> float:
        """The bytes as a ring sends them, the waiting as a tree does it, up and down."""
        return (
            2 * (workers - 1) / workers * sent.payload / self.bandwidth
            + sent.all_reduces * 2 * ceil(log2(workers)) * self.latency
        )


@dataclass(frozen=True)
class Cost:
    """Seconds of one segment on one worker with n images of every batch: ``fixed + n per_image``.

    What is fixed is what sharing a batch does not divide: starting kernels, augmenting the whole batch, stepping theta.
    """

    fixed: float
    per_image: float

    @classmethod
    def through(cls, half: float, whole: float, batch: int) -> "Cost":
        """From the seconds at B / 2 and at B images."""
        per_image = max(whole - half, 0.0) / (batch - batch // 2)
        return cls(whole - batch * per_image, per_image)


def update_seconds(
    update: Update, cost: Cost, link: Link, parallel: Parallel, workers: int
) -> float:
    """The slowest worker's share of the work, and the sums."""
    if parallel == "trajectory":
        work = ceil(update.segments / workers) * (cost.fixed + update.batch * cost.per_image)
    else:
        work = update.segments * (cost.fixed + ceil(update.batch / workers) * cost.per_image)
    return work + link.seconds(traffic(update, parallel, workers), workers)
