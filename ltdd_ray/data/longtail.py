"""The long-tailed profile: which images of a balanced source are kept.

Zhao et al., "Distilling Long-tailed Datasets", CVPR 2025 (arXiv 2408.14506), after the CIFAR-LT of Cui et al. (arXiv 1901.05555).
N images, M kept images, C classes; IF is the imbalance factor n_max / n_min.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ltdd_ray.common.errors import UserError

# The published subsets were drawn with this seed; every run must see the same images, so it is not the run's seed.
SELECTION_SEED = 42


def long_tail_counts(n_max: int, imbalance_factor: float, num_classes: int) -> np.ndarray:
    """n_k = floor(n_max * IF^(-k/(C-1))), k = 0..C-1, as int64 (C,).

    Raises ``UserError`` when the last class would keep no image.
    """
    exponents = np.arange(num_classes) / max(num_classes - 1, 1)
    exact = n_max * float(imbalance_factor) ** -exponents
    # The power is off by an ulp where the exact value is whole, for example 160 * 32^(-2/5); floor would lose an image.
    counts = np.floor(exact * (1 + 1e-12)).astype(np.int64)
    if counts[-1] < 1:
        raise UserError(
            f"data.imbalance_factor {imbalance_factor:g} leaves the last class without an image, as the largest has only {n_max}; "
            f"set it to at most {n_max}"
        )
    return counts


def long_tail_indices(
    labels: np.ndarray,
    class_names: Sequence[str],
    imbalance_factor: float,
    selection: Literal["random", "first"],
    n_max: int | None = None,
) -> np.ndarray:
    """Positions int64 (M,) of the kept images, class by class, class 0 being the largest.

    ``random`` keeps the first n_k of a fixed permutation of the class's images in file order, ``first`` the first n_k in file
    order; either way the images of a larger IF are among those of a smaller one.

    Args:
        labels: int (N,), 0..C-1.
        class_names: C names, for errors.
        n_max: what the profile starts from, a class with fewer images than its n_k giving all of them, as in the published cut of
            ImageNet, which is not quite balanced. None for the source's largest class; a class short of its n_k is then an error.

    Raises ``UserError`` in that case.
    """
    num_classes = len(class_names)
    available = np.bincount(labels, minlength=num_classes)
    wanted = long_tail_counts(n_max or int(available.max()), imbalance_factor, num_classes)
    short = np.flatnonzero(available < wanted)
    if len(short) and n_max is None:
        k = short[0]
        raise UserError(
            f"class {k} ({class_names[k]!r}) has {available[k]} images, but the profile of data.imbalance_factor "
            f"{imbalance_factor:g} takes {wanted[k]} of it (the largest class has {available.max()}); "
            "set data.imbalance_factor to null to keep the natural counts, data.largest_class to start from so many and take all "
            "of a smaller class, or start from a balanced source"
        )
    kept = []
    for k in range(num_classes):
        members = np.flatnonzero(labels == k)
        if selection == "random":
            members = members[
                np.random.RandomState(SELECTION_SEED).choice(
                    len(members), len(members), replace=False
                )
            ]
        kept.append(members[: wanted[k]])
    return np.concatenate(kept)
