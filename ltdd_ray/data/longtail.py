"""The long-tailed profile: how many images of each class of a balanced source are kept, and which.

Zhao et al., "Distilling Long-tailed Datasets", CVPR 2025 (arXiv 2408.14506), after the CIFAR-LT of
Cui et al. (arXiv 1901.05555). N images, M kept images, C classes; IF is the imbalance factor
n_max / n_min.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ltdd_ray.common.errors import UserError

# The seed of the published subsets. Not the run's seed, so that all runs see the same images.
SELECTION_SEED = 42


def long_tail_counts(n_max: int, imbalance_factor: float, num_classes: int) -> np.ndarray:
    """n_k = floor(n_max * IF^(-k/(C-1))), k = 0..C-1, as int64 (C,).

    Raises ``UserError`` if the last class would keep no image.
    """
    exponents = np.arange(num_classes) / max(num_classes - 1, 1)
    exact = n_max * float(imbalance_factor) ** -exponents
    # Where the exact value is whole, as for 160 * 32^(-2/5), the power may lie an ulp below it.
    counts = np.floor(exact * (1 + 1e-12)).astype(np.int64)
    if counts[-1] < 1:
        raise UserError(
            f"data.imbalance_factor {imbalance_factor:g} leaves the last class without an image, "
            f"because the largest has only {n_max}; set it to at most {n_max}"
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

    The images kept at a larger IF are a subset of those kept at a smaller one.

    Args:
        labels: int (N,), 0..C-1.
        class_names: C names, for errors.
        selection: ``first`` keeps the first n_k images of a class in file order; ``random`` keeps
            the first n_k of a fixed permutation of them.
        n_max: n_k of class 0. A class with fewer images than its n_k gives all of them, as in the
            published cut of ImageNet, which is not quite balanced. None takes the size of the
            source's largest class, and requires n_k images of every class.

    Raises ``UserError`` if ``n_max`` is None and a class has fewer images than its n_k.
    """
    num_classes = len(class_names)
    available = np.bincount(labels, minlength=num_classes)
    wanted = long_tail_counts(n_max or int(available.max()), imbalance_factor, num_classes)
    short = np.flatnonzero(available < wanted)
    if len(short) and n_max is None:
        k = short[0]
        raise UserError(
            f"class {k} ({class_names[k]!r}) has {available[k]} images, but the profile of "
            f"data.imbalance_factor {imbalance_factor:g} takes {wanted[k]} of it (the largest "
            f"class has {available.max()}); set data.imbalance_factor to null to keep the natural "
            "counts, or set data.largest_class, so that smaller classes give all they have"
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
