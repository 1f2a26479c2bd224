"""Representative real images (DREAM; Liu et al., ICCV 2023): the nearest to each cluster's centre.

N images of one class, F features, R images wanted, C classes.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ltdd_ray.data.budget import repeated
from ltdd_ray.data.prepare import Images
from ltdd_ray.nn.networks import Network

TIE = 1e-4  # relative; distances that differ by less would be told apart by rounding
BATCH = 512  # images of one pass through the network


def representatives(features: Tensor, count: int, seed: int) -> Tensor:
    """``count`` indices (R,) into ``features`` (N, F): the nearest to each of R k-means centres.

    The lower index breaks ties: two images that make up a cluster are equally far from its centre.
    With N <= R these are all images, repeated where N < R. One image is nearest to two centres only
    where the class has fewer than R different images, or by chance.
    """
    if len(features) <= count:
        return repeated(torch.arange(len(features)), count)
    from sklearn.cluster import KMeans  # here, since it takes two seconds and few runs need it
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    kmeans = KMeans(count, n_init=1, random_state=seed % 2**32)  # pyright: ignore[reportArgumentType]
    # With several threads the order of sums, so their last bits, would differ from run to run.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer than R different images
        to_centres = kmeans.fit_transform(features.cpu().numpy())
    nearest = to_centres <= to_centres.min(0) * (1 + TIE)
    return torch.from_numpy(nearest.argmax(0))  # the first one


@torch.no_grad()
def choose_representatives(
    network: Network, real: Images, members: Sequence[Tensor], count: int, seed: int
) -> Tensor:
    """``count`` indices of each class (C, R) into ``real`` (B, K, H, W), as ``network`` embeds it.

    ``members[k]`` (N,) are the indices of class k.
    """
    rows = []
    for of_class in members:
        parts = of_class.to(real.device).split(BATCH)
        features = torch.cat([network.backbone(real[part]) for part in parts])
        rows.append(of_class[representatives(features, count, seed)])
    return torch.stack(rows).to(real.device)
