"""How often images of one class are predicted as another.

Pairs that never occur are left out, since nearly all of the C x C pairs of a thousand classes never
do. N images, C classes.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

# (true class, predicted class, images), in ascending order.
Confusion = tuple[tuple[int, int, int], ...]


def count_confusion(labels: Tensor, predicted: Tensor) -> Confusion:
    """Count the pairs of ``labels`` (N,) and ``predicted`` (N,), both integers."""
    pairs, images = torch.stack([labels, predicted], 1).unique(dim=0, return_counts=True)
    return tuple((true, other, n) for (true, other), n in zip(pairs.tolist(), images.tolist()))


def mean_confusion(counted: Sequence[Confusion | None]) -> list[tuple[int, int, float]]:
    """(true class, predicted class, mean number of images) over several networks, ascending.

    Empty where a network has None: it was measured by a version that did not count pairs.
    """
    total: Counter[tuple[int, int]] = Counter()
    for one in counted:
        if one is None:
            return []
        total.update({(true, predicted): images for true, predicted, images in one})
    return [(*pair, images / len(counted)) for pair, images in sorted(total.items())]
