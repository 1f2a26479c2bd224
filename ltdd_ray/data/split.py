"""Setting images aside: a share of every class, or the labels of most."""

import numpy as np
import torch

from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.errors import UserError
from ltdd_ray.seeding import generator


def hold_out(dataset: LongTailedDataset, fraction: float, seed: int, purpose: str) -> tuple[LongTailedDataset, LongTailedDataset]:
    """(kept, held out): a random ``fraction`` of each class, rounded, with at least one image on either side.

    Both keep the order of ``dataset``; the draw depends on (seed, purpose, class) alone. Raises ``UserError`` for a class with
    a single image, which can serve only one side.
    """
    single = np.flatnonzero(dataset.class_counts == 1)
    if len(single):
        raise UserError(
            f"{purpose}: {len(single)} class(es) with a single image cannot be divided, the first being "
            f"{dataset.class_names[single[0]]!r}; add images, lower data.imbalance_factor, or hold nothing out"
        )
    held = np.zeros(len(dataset), dtype=bool)
    for k, count in enumerate(dataset.class_counts):
        share = min(max(round(fraction * count), 1), count - 1)
        order = torch.randperm(int(count), generator=generator(seed, purpose, k)).numpy()
        held[np.flatnonzero(dataset.labels == k)[order[:share]]] = True
    return dataset.subset(np.flatnonzero(~held)), dataset.subset(np.flatnonzero(held))


def labelled_subset(dataset: LongTailedDataset, fraction: float, seed: int) -> np.ndarray:
    """bool (N,): a random ``fraction`` of all images, drawn without regard to class, and one of every class that it missed."""
    order = torch.randperm(len(dataset), generator=generator(seed, "labelled subset")).numpy()
    known = np.zeros(len(dataset), dtype=bool)
    known[order[: round(fraction * len(dataset))]] = True
    missed = np.setdiff1d(np.arange(dataset.num_classes), dataset.labels[known])
    for k in missed:
        known[order[np.argmax(dataset.labels[order] == k)]] = True
    return known
