"""Differentiable Siamese augmentation (DSA; Zhao & Bilen, ICML 2021).

A batch gets one operation of the strategy. Trajectory matching draws a strength per image. The
Siamese form, for distribution matching, draws one strength per batch, so that batches of different
sizes can get the same augmentation. All draws are made on the CPU from the generator handed in:
every device and every recomputation of a step gets the same augmentation.

B batch, K channels, H x W image size; S strengths drawn, B or 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from ltdd_ray.common.device import to_device
from ltdd_ray.common.errors import UserError

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP, CUTOUT, SCALE, ROTATE_DEGREES = 0.125, 0.5, 1.2, 15.0


@dataclass(frozen=True)
class Augmentation:
    """A strategy such as ``color_crop_flip``. The empty one leaves images as they are.

    Raises ``UserError`` for an unknown operation.
    """

    strategy: str

    def __post_init__(self) -> None:
        unknown = [name for name in self.operations if name not in _OPERATIONS]
        if unknown:
            raise UserError(
                f"augmentation `{self.strategy}`: no operation `{unknown[0]}`; "
                f"choose among {'_'.join(_OPERATIONS)}"
            )

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(self.strategy.split("_")) if self.strategy else ()

    def __call__(self, images: Tensor, generator: Generator, *, siamese: bool = False) -> Tensor:
        """(B, K, H, W) -> (B, K, H, W), differentiable in ``images``.

        With ``siamese`` all images get the same strength, and generators in the same state give
        batches of different sizes the same augmentation.
        """
        if not self.operations:
            return images
        drawn = int(torch.randint(len(self.operations), (), generator=generator))
        operation = _OPERATIONS[self.operations[drawn]]
        return operation(images, generator, 1 if siamese else len(images))


def _uniform(images: Tensor, generator: Generator, strengths: int) -> Tensor:
    """Draws from [0, 1), shape (S, 1, 1, 1)."""
    return to_device(
        torch.rand(strengths, 1, 1, 1, generator=generator), images.device, images.dtype
    )


def _color(images: Tensor, generator: Generator, strengths: int) -> Tensor:
    images = images + (_uniform(images, generator, strengths) - 0.5) * BRIGHTNESS
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (_uniform(images, generator, strengths) * SATURATION)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (_uniform(images, generator, strengths) + CONTRAST)


def _crop(images: Tensor, generator: Generator, strengths: int) -> Tensor:
    """Shift by up to an eighth of each side; the uncovered border is zero."""
    height, width = images.shape[2:]
    reach = int(height * CROP + 0.5), int(width * CROP + 0.5)
    rows, columns = (
        to_device(
            torch.randint(-r, r + 1, (strengths, 1), generator=generator) + torch.arange(r, r + n),
            images.device,
        )
        for r, n in zip(reach, (height, width))
    )
    padded = pad(images, (reach[1], reach[1], reach[0], reach[0]))
    image = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )


def _cutout(images: Tensor, generator: Generator, strengths: int) -> Tensor:
    """Set a rectangle with half of each side, centred anywhere, to zero."""
    inside = []
    for n in images.shape[2:]:
        size = int(n * CUTOUT + 0.5)
        start = torch.randint(0, n + 1 - size % 2, (strengths, 1), generator=generator) - size // 2
        position = torch.arange(n)
        inside.append((position >= start) & (position < start + size))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images * to_device(~hole, images.device, images.dtype)


def _flip(images: Tensor, generator: Generator, strengths: int) -> Tensor:
    return torch.where(_uniform(images, generator, strengths) < 0.5, images.flip(3), images)


def _scale(images: Tensor, generator: Generator, strengths: int) -> Tensor:
    """Stretch height and width independently by a factor in [1/1.2, 1.2]."""
    low, high = 1 / SCALE, SCALE
    factors = torch.rand(strengths, 2, generator=generator) * (high - low) + low
    return _warp(images, torch.diag_embed(factors))


def _rotate(images: Tensor, generator: Generator, strengths: int) -> Tensor:
    angle = (torch.rand(strengths, generator=generator) - 0.5) * (2 * ROTATE_DEGREES * pi / 180)
    rows = [
        torch.stack([angle.cos(), -angle.sin()], -1),
        torch.stack([angle.sin(), angle.cos()], -1),
    ]
    return _warp(images, torch.stack(rows, 1))


def _warp(images: Tensor, linear_map: Tensor) -> Tensor:
    """Bilinear samples at ``linear_map`` (S, 2, 2) of the normalised pixel grid, zero outside."""
    affine = to_device(
        torch.cat([linear_map, torch.zeros(len(linear_map), 2, 1)], 2), images.device, images.dtype
    )
    affine = affine.expand(len(images), 2, 3)
    return grid_sample(
        images, affine_grid(affine, list(images.shape), align_corners=False), align_corners=False
    )


_OPERATIONS: dict[str, Callable[[Tensor, Generator, int], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
