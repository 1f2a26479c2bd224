"""Multi-formation: one stored image is a mosaic of f x f smaller pictures.

IDC (Kim et al., ICML 2022) calls it multi-formation, IDM (Zhao et al., CVPR 2023, Sec. 4.1)
partition and expansion. A set of equal bytes shows networks f^2 times as many pictures, each at
1/f of the resolution.

M mosaics, K channels, H x W image size, f pictures per side (the ``factor``). The pictures of one
mosaic lie next to each other in the batch, row by row.
"""

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ltdd_ray.common.errors import UserError


def encode(pictures: Tensor, factor: int) -> Tensor:
    """(M f^2, K, H, W) -> (M, K, H, W): each picture shrunk to a cell by averaging.

    H and W must be multiples of ``factor``.
    """
    if factor == 1:
        return pictures
    cells = avg_pool2d(pictures, factor)
    channels, height, width = cells.shape[1:]
    grid = cells.view(-1, factor, factor, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, channels, factor * height, factor * width)


def decode(mosaics: Tensor, factor: int) -> Tensor:
    """(M, K, H, W) -> (M f^2, K, H, W): each cell cut out and enlarged bilinearly.

    Differentiable.
    """
    if factor == 1:
        return mosaics
    count, channels, height, width = mosaics.shape
    grid = mosaics.reshape(
        count, channels, factor, height // factor, factor, width // factor
    ).permute(0, 2, 4, 1, 3, 5)
    return _enlarge(grid.flatten(0, 2), height, width)


def as_pictures(images: Tensor, factor: int) -> Tensor:
    """Images (B, K, H, W) as a network sees them after a way through a mosaic, same shape."""
    if factor == 1:
        return images
    return _enlarge(avg_pool2d(images, factor), *images.shape[2:])


def require_cells(shape: tuple[int, int, int], factor: int) -> None:
    """Raise ``UserError`` where images of ``shape`` (K, H, W) cannot be cut into cells."""
    height, width = shape[1:]
    if height % factor or width % factor:
        raise UserError(
            f"distill.pictures_per_side {factor} does not divide images of {height} x {width} "
            "pixels; choose a divisor, or another data.image_size"
        )


def _enlarge(cells: Tensor, height: int, width: int) -> Tensor:
    return interpolate(cells, size=(height, width), mode="bilinear")
