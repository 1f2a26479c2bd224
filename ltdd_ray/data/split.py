"""Hold out a share of every class, or choose the images whose labels are known."""

from collections.abc import Sequence

import numpy as np
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset


def hold_out(
    dataset: LongTailedDataset, fraction: float, seed: int, purpose: str
) -> tuple[LongTailedDataset, LongTailedDataset]:
    """Hold out a random ``fraction`` of each class; returns (kept, held out).

    The number is rounded, with at least one image of a class in either part. Both parts keep the
    order of ``dataset``. The draw depends on (seed, purpose, class) only. Raises ``UserError`` for
    a class with a single image.
    """
    single = np.flatnonzero(dataset.class_counts == 1)
    if len(single):
        raise UserError(
            f"{purpose}: {len(single)} class(es) with a single image cannot be divided, the first "
            f"being {dataset.class_names[single[0]]!r}; add images, lower data.imbalance_factor, "
            "or hold nothing out"
        )
    shares = [held_out_of(count, fraction) for count in dataset.class_counts.tolist()]
    held = _draw(dataset, shares, seed, purpose)
    return dataset.subset(np.flatnonzero(~held)), dataset.subset(np.flatnonzero(held))


def held_out_of(count: int, fraction: float) -> int:
    """How many of the ``count`` images of a class, two or more, :func:`hold_out` holds out."""
    return min(max(round(fraction * count), 1), count - 1)


def hold_out_where_possible(
    dataset: LongTailedDataset, fraction: float, seed: int, purpose: str
) -> tuple[LongTailedDataset, LabelledImages]:
    """Like :func:`hold_out`, but rounded down: a class under 1 / ``fraction`` images stays whole.

    Raises ``UserError`` if every class is that small.
    """
    shares = [int(fraction * count + 1e-9) for count in dataset.class_counts]
    if not any(shares):
        raise UserError(
            f"{purpose}: no class is large enough to hold {fraction:g} of it out, the largest has "
            f"{dataset.class_counts.max()} images; raise search.validation_fraction"
        )
    held = _draw(dataset, shares, seed, purpose)
    return dataset.subset(np.flatnonzero(~held)), LabelledImages(
        dataset.images[held], dataset.labels[held], dataset.class_names
    )


def _draw(dataset: LongTailedDataset, shares: Sequence[int], seed: int, purpose: str) -> np.ndarray:
    """bool (N,): ``shares[k]`` random images of each class k, True."""
    chosen = np.zeros(len(dataset), dtype=bool)
    for k, (count, share) in enumerate(zip(dataset.class_counts, shares)):
        order = torch.randperm(int(count), generator=generator(seed, purpose, k)).numpy()
        chosen[np.flatnonzero(dataset.labels == k)[order[:share]]] = True
    return chosen


def labelled_subset(dataset: LongTailedDataset, fraction: float, seed: int) -> np.ndarray:
    """bool (N,): the images whose labels are known.

    A random ``fraction`` of all images, and one image of each class that the draw missed.
    """
    order = torch.randperm(len(dataset), generator=generator(seed, "labelled subset")).numpy()
    known = np.zeros(len(dataset), dtype=bool)
    known[order[: round(fraction * len(dataset))]] = True
    missed = np.setdiff1d(np.arange(dataset.num_classes), dataset.labels[known])
    for k in missed:
        known[order[np.argmax(dataset.labels[order] == k)]] = True
    return known
