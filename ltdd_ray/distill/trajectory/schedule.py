"""Which expert segment an update matches; a function of (run seed, update, segment) alone."""

from dataclasses import dataclass

import torch

from ltdd_ray.common.seeding import derive_seed, generator
from ltdd_ray.config import StartEpochs


@dataclass(frozen=True)
class Draw:
    """One segment of one phase: expert, start epoch, and the seed of the inner loop."""

    expert: int
    start_epoch: int
    seed: int


def last_start_epoch(epochs: StartEpochs, update: int) -> int:
    """The largest start epoch at ``update``.

    It grows linearly from ``initial_max`` to ``max`` over the first ``growth`` updates.
    """
    first = epochs.max if epochs.initial_max is None else epochs.initial_max
    if update >= epochs.growth:
        return epochs.max
    return first + (epochs.max - first) * update // epochs.growth


def draw_segment(
    epochs: StartEpochs, experts: int, run_seed: int, phase: str, update: int, segment: int
) -> Draw:
    """Draw segment number ``segment`` of ``update`` for ``phase``, expert and epoch uniformly."""
    random = generator(run_seed, f"segment-{phase}", update, segment)
    expert = int(torch.randint(experts, (), generator=random))
    start = int(
        torch.randint(epochs.min, last_start_epoch(epochs, update) + 1, (), generator=random)
    )
    return Draw(expert, start, derive_seed(run_seed, f"inner-{phase}", update, segment))


def share(segments: int, rank: int, world_size: int) -> range:
    """The segments of an update that ``rank`` computes; shares differ by at most one."""
    return range(rank, segments, world_size)
