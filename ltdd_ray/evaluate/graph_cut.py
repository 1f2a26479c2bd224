"""Greedy graph-cut selection (Iyer & Bilmes, NeurIPS 2013).

    f(S) = lambda sum_{i in V, j in S} s_ij - sum_{i, j in S} s_ij
    s_ij = (1 + cos(x_i, x_j)) / 2

V are the images of a class and x their features. The first term wants images like many others, the
second one images unlike each other. Similarity and lambda are those of DeepCore (Guo et al., DEXA
2022). DeepCore takes x from the gradient of an image's loss over the classifier, and here x are the
features of an expert, as in k-center selection.

N images, F features.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ltdd_ray.evaluate.selection import first_marked

LAMBDA = 1.0

# Relative to N, the largest sum of similarities. Two images are equally similar to each other, so
# rounding alone would choose one of them.
TIE = 1e-6


def graph_cut(features: Tensor, count: int) -> list[int]:
    """Choose ``count`` rows of ``features`` (N, F), or all N; indices in the order of choice.

    Each adds the most to f. The lower index breaks ties, and gains that differ by TIE * N or less
    are ties. Where no image adds to f, the one that takes the least away is chosen.
    """
    x = normalize(features.double(), dim=1)
    to_all = (len(x) + x @ x.sum(0)) / 2
    to_chosen = torch.zeros_like(to_all)
    free = torch.ones_like(to_all, dtype=torch.bool)
    chosen: list[int] = []
    while len(chosen) < min(count, len(x)):
        # f(S + j) - f(S) less s_jj, which is 1 for every j
        gain = (LAMBDA * to_all - 2 * to_chosen).masked_fill(~free, -torch.inf)
        chosen.append(first_marked(gain >= gain.max() - TIE * len(x)))
        to_chosen += (1 + x @ x[chosen[-1]]) / 2
        free[chosen[-1]] = False
    return chosen
