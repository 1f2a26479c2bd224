"""Crops of real images, and which of them a set starts from (RLDD, its step 3).

B images, K x H x W image shape, n images of a class, V crops of each.
"""

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample

SMALLEST_AREA = 0.5  # of the image


def draw_crops(images: int, crops: int, draw: Generator) -> Tensor:
    """Random squares (``images``, ``crops``, 3): half of the side, and the centre (x, y).

    In units of half the image, whose middle is (0, 0). The area is at least ``SMALLEST_AREA``.
    """
    drawn = torch.rand(images, crops, 3, generator=draw)
    side = (SMALLEST_AREA + (1 - SMALLEST_AREA) * drawn[..., :1]).sqrt()
    return torch.cat([side, (2 * drawn[..., 1:] - 1) * (1 - side)], -1)


def cut(images: Tensor, crops: Tensor) -> Tensor:
    """``crops`` (B, 3) of images (B, K, H, W), enlarged bilinearly to the size of the image."""
    side, x, y = crops.to(images).unbind(-1)
    none = torch.zeros_like(side)
    maps = torch.stack([torch.stack([side, none, x], -1), torch.stack([none, side, y], -1)], 1)
    grid = affine_grid(maps, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def choose_in_rounds(scores: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """``wanted`` of n V crops of ``scores`` (n, V): image and crop (``wanted``,), best first.

    A round takes at most one crop of an image, the best that is left of it, and takes them by their
    scores until there are enough. So images differ as long as there are enough of them.
    """
    best, crop = scores.sort(dim=1, descending=True, stable=True)
    best, order = best.T.sort(dim=1, descending=True, stable=True)  # a row per round, of images
    image = order.flatten()[:wanted]
    crop = crop.T.gather(1, order).flatten()[:wanted]
    return image, crop
