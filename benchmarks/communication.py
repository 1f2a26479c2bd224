"""A model of an update's communication and time on n workers; it measures nothing.

The payload is the input of an all-reduce on each worker. A ring then sends 2 (n - 1) / n of it over
every worker's link. The losses, some hundred bytes per update, are not counted.
"""

from dataclasses import dataclass
from math import ceil, log2
from typing import Literal

FLOAT = 4  # bytes
BUCKET = 25 * 2**20  # bytes that DDP sends at once

Parallel = Literal["trajectory", "batch"]


@dataclass(frozen=True, kw_only=True)
class Update:
    """An update's sizes, which decide its traffic.

    Attributes:
        parameters, classifier_parameters: P and Pc; the classifier phase moves only the latter.
        set_values: learned numbers of the synthetic set, M K H W + M C + 1.
        steps: T of the representation and of the classifier phase.
        batch: B of both phases.
        exact: whether the hypergradient is exact, whose backward steps need sums too.
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
    """An update's number of all-reduces, and their payload in bytes."""

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
    """A worker's ``bandwidth`` in bytes per second and the ``latency`` of a message in seconds."""

    bandwidth: float
    latency: float

    def seconds(self, sent: Traffic, workers: int) -> float:
        """Bytes as in a ring, latency as in a tree, up and down."""
        return (
            2 * (workers - 1) / workers * sent.payload / self.bandwidth
            + sent.all_reduces * 2 * ceil(log2(workers)) * self.latency
        )


@dataclass(frozen=True)
class Cost:
    """Seconds of one segment on a worker that has n images of every batch: ``fixed + n per_image``.

    Sharing a batch does not divide the fixed part: starting kernels, augmenting the whole batch,
    stepping theta.
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
    """Seconds of the slowest worker's share of the work, and of the sums."""
    if parallel == "trajectory":
        work = ceil(update.segments / workers) * (cost.fixed + update.batch * cost.per_image)
    else:
        work = update.segments * (cost.fixed + ceil(update.batch / workers) * cost.per_image)
    return work + link.seconds(traffic(update, parallel, workers), workers)
