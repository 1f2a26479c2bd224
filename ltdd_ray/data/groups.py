"""Many-, medium- and few-shot classes."""

from collections.abc import Sequence

import numpy as np


def class_groups(class_counts: np.ndarray | Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Classes ordered by falling count (ties by label) and cut into thirds: ``many``, ``medium``, ``few``.

    The outer groups have C // 3 classes, at least one; the remainder is ``medium``, so ten classes give 3, 4, 3. Two classes
    have no ``medium``: a group without a class is left out. A rank, not a count, decides, so that the groups of one source
    stay the same at every imbalance factor.

    Args:
        class_counts: (C,) training images of each class, C >= 2.
    """
    order = [int(k) for k in np.argsort(-np.asarray(class_counts), kind="stable")]
    outer = max(1, len(order) // 3)
    groups = {"many": order[:outer], "medium": order[outer:-outer], "few": order[-outer:]}
    return {name: tuple(classes) for name, classes in groups.items() if classes}
