"""Classes by their number of images: from head to tail, and many-, medium- and few-shot."""

from collections.abc import Sequence

import numpy as np

from ltdd_ray.common.spacing import evenly_spaced


def head_to_tail(class_counts: Sequence[int], most: int | None = None) -> list[int]:
    """The classes by falling count, ties by label; of too many classes ``most``, evenly spaced."""
    ranked = sorted(range(len(class_counts)), key=lambda k: -class_counts[k])
    return ranked if most is None else [ranked[i] for i in evenly_spaced(len(ranked), most)]


def class_groups(class_counts: np.ndarray | Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Cut the classes, sorted by falling count (ties by label), into many, medium and few.

    ``many`` are the C // 3 largest classes, at least one, and ``few`` as many of the smallest;
    ``medium`` has the rest. Ten classes give 3, 4, 3. Classes of equal size share a group: the
    outer groups take all that are as large as one of their own, and where that would put a class
    into both, those of its size are ``medium``. A group without a class is left out.
    The groups depend on ranks only, so those of one source are the same at every imbalance factor,
    unless rounded counts become equal at a cut.

    Args:
        class_counts: (C,) training images of each class, C >= 2.
    """
    counts = np.asarray(class_counts)
    order = np.argsort(-counts, kind="stable")
    outer = max(1, len(order) // 3)
    ranked = counts[order]
    smallest_many, largest_few = ranked[outer - 1], ranked[-outer]
    if smallest_many == largest_few:
        many, few = ranked > smallest_many, ranked < largest_few
    else:
        many, few = ranked >= smallest_many, ranked <= largest_few
    parts = {"many": many, "medium": ~(many | few), "few": few}
    return {name: tuple(order[part].tolist()) for name, part in parts.items() if part.any()}
