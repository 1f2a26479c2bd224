"""Partitioning and expansion (IDM; Zhao et al., CVPR 2023, Sec. 4.1): one stored image holds f x f smaller pictures.

M mosaics, K channels, H x W image size, f pictures per side; pictures of one mosaic lie next to each other, row by row.
"""

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


def encode(pictures: Tensor, factor: int) -> Tensor:
    """(M f^2, K, H, W) -> (M, K, H, W), each picture shrunk to a cell by averaging. H and W must be multiples of ``factor``."""
    cells = avg_pool2d(pictures, factor)
    channels, height, width = cells.shape[1:]
    grid = cells.view(-1, factor, factor, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, channels, factor * height, factor * width)


def decode(mosaics: Tensor, factor: int) -> Tensor:
    """(M, K, H, W) -> (M f^2, K, H, W), each cell cut out and enlarged bilinearly; differentiable."""
    if factor == 1:
        return mosaics
    count, channels, height, width = mosaics.shape
    grid = mosaics.reshape(
        count, channels, factor, height // factor, factor, width // factor
    ).permute(0, 2, 4, 1, 3, 5)
    return interpolate(grid.flatten(0, 2), size=(height, width), mode="bilinear")
