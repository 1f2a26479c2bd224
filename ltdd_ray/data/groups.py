"""Groups of classes: many-, medium- and few-shot."""

from collections.abc import Sequence

import numpy as np


def class_groups(class_counts: np.ndarray | Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Cut the classes, sorted by falling count (ties by label), into many, medium and few.

    ``many`` and ``few`` have C // 3 classes each, at least one; ``medium`` has the rest. Ten
    classes give 3, 4, 3. A group without a class is left out, as ``medium`` is for two classes.
    The groups depend on ranks only, so those of one source are the same at every imbalance factor.

    Args:
        class_counts: (C,) training images of each class, C >= 2.
    """
    order = [int(k) for k in np.argsort(-np.asarray(class_counts), kind="stable")]
    outer = max(1, len(order) // 3)
    groups = {"many": order[:outer], "medium": order[outer:-outer], "few": order[-outer:]}
    return {name: tuple(classes) for name, classes in groups.items() if classes}
