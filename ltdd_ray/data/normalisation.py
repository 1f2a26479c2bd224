"""The map from pixel values to model space, the input of networks, and back.

B images, N training images, K channels, H height, W width, D = K H W. Model space is float32.
Pixels are 0..255 as input and 0..1 as output, so an inverted image can be shown directly.

Three kinds:

- ``standard``: pixels / 255, standardised per channel.
- ``zca_raw``: pixels / 255, centred, times U (S + eps)^(-1/2) U^T of their covariance U S U^T. KIP
  (Nguyen et al., arXiv 2107.13034), MTT (Cazenavette et al., arXiv 2203.11932), DATM and the
  CIFAR-10-LT experiments of LTDD whiten this way.
- ``zca``: the same on images standardised per channel first, as in the CIFAR-100-LT experiments of
  LTDD. The spectrum is larger, so eps weighs less and more directions have unit variance.

A ZCA fit costs O(N D^2 + D^3): ten to twenty seconds on two CPU cores for 32 x 32 colour images,
and 64 times that for 64 x 64 (:func:`fit_cost`).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from math import prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ltdd_ray.common.device import without_autocast
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.units import duration, size
from ltdd_ray.data.mapped import MappedImages

Kind = Literal["standard", "zca", "zca_raw"]

# Limits the gain of directions with almost no variance; the value of the published whitening.
ZCA_EPS = 0.1
# 64 x 64 colour images. Their two matrices take 1.2 GB, in each process and in each set's file.
MAX_ZCA_DIM = 12_288
# From this size on a fit is announced.
_LARGE_DIM, _TIMED_DIM = 4096, 768
# Sums of up to 257 squared bytes are exact in float32.
_BATCH = 256


def fit_cost(dim: int, count: int) -> tuple[float, int]:
    """(seconds, bytes) that a ZCA fit of D = ``dim`` to N = ``count`` images takes here.

    The sum of outer products and the decomposition are timed on a small matrix. The bytes are five
    float64 matrices: the covariance, its basis and the decomposition's own.
    """
    matrix = torch.eye(_TIMED_DIM, dtype=torch.float64)
    matrix[0] = matrix[:, 0] = 1.0
    batch = torch.ones(_BATCH, _TIMED_DIM, dtype=torch.float64)
    began = time.perf_counter()
    torch.linalg.eigh(matrix)
    decomposed = time.perf_counter()
    matrix.addmm_(batch.T, batch)
    times = dim / _TIMED_DIM
    seconds = (decomposed - began) * times**3
    seconds += (time.perf_counter() - decomposed) * times**2 * count / _BATCH
    return seconds, 5 * 8 * dim**2


@dataclass(frozen=True, eq=False)
class Normalisation:
    """An invertible affine map of images, fitted on training images.

    Attributes:
        mean, std: float32 (K, 1, 1), of pixels in 0..1; 0 and 1 for ``zca_raw``.
        centre: float32 (D,), mean of the standardised pixels; None unless ZCA, like the next two.
        whiten, unwhiten: float32 (D, D), symmetric and inverse to each other.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor | None = None
    whiten: Tensor | None = None
    unwhiten: Tensor | None = None

    @classmethod
    def fit(
        cls,
        images: np.ndarray | MappedImages,
        kind: Kind,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> "Normalisation":
        """Fit on training images, uint8 (N, K, H, W).

        ``say`` gets a sentence before a fit that takes minutes. Raises ``UserError`` if the images
        are too large for a ZCA matrix.
        """
        dim = prod(images.shape[1:])
        if kind != "standard" and dim > MAX_ZCA_DIM:
            raise UserError(
                f"data.normalisation {kind} needs a {dim} x {dim} matrix for images of shape "
                f"{images.shape[1:]}, more than {MAX_ZCA_DIM} x {MAX_ZCA_DIM}; "
                "set data.normalisation: standard, or a smaller data.image_size"
            )
        if kind != "standard" and dim >= _LARGE_DIM:
            seconds, needed = fit_cost(dim, len(images))
            say(
                f"whitening images of {dim:,} values takes about {duration(seconds)} and "
                f"{size(needed)} of memory, then {size(8 * dim**2)} in each process and in the "
                "file of each set; data.normalisation: standard takes neither"
            )
        total, squares = torch.zeros(2, *images.shape[1:], dtype=torch.float64)
        for batch in _float_batches(images):
            total += batch.sum(0)
            squares += batch.square().sum(0)
        pixel_mean = total / (255 * len(images))
        mean = pixel_mean.mean((1, 2), keepdim=True)
        variance = (squares / (255**2 * len(images))).mean((1, 2), keepdim=True) - mean.square()
        # A constant channel has no spread; half a grey level is used instead.
        std = variance.clamp(min=(0.5 / 255) ** 2).sqrt()
        if kind == "standard":
            return cls(mean.float(), std.float())
        if kind == "zca_raw":
            mean, std = torch.zeros_like(mean), torch.ones_like(std)

        gram = torch.zeros(dim, dim, dtype=torch.float64)
        for batch in _float_batches(images):
            deviations = ((batch.double() / 255 - pixel_mean) / std).flatten(1)
            gram.addmm_(deviations.T, deviations)
        spectrum, basis = torch.linalg.eigh(gram / max(len(images) - 1, 1))
        scale = (spectrum.clamp(min=0) + ZCA_EPS).sqrt()
        whiten, unwhiten = (basis / scale) @ basis.T, (basis * scale) @ basis.T
        centre = ((pixel_mean - mean) / std).flatten()
        return cls(mean.float(), std.float(), centre.float(), whiten.float(), unwhiten.float())

    @without_autocast
    def apply(self, images: Tensor) -> Tensor:
        """Pixels (B, K, H, W), uint8 or float in 0..255, to model space, float32 of equal shape."""
        x = (images.float() / 255 - self.mean) / self.std
        if self.centre is None or self.whiten is None:
            return x
        return ((x.flatten(1) - self.centre) @ self.whiten).view_as(x)

    @without_autocast
    def invert(self, x: Tensor) -> Tensor:
        """Model space (B, K, H, W) to float32 pixels in 0..1.

        Values are not clamped; those of learned images may lie a little outside.
        """
        if self.centre is not None and self.unwhiten is not None:
            x = (x.flatten(1) @ self.unwhiten + self.centre).view_as(x)
        return x * self.std + self.mean

    @property
    def kind(self) -> Kind:
        if self.whiten is None:
            return "standard"
        return "zca_raw" if bool((self.std == 1).all() and (self.mean == 0).all()) else "zca"

    def to(self, device: torch.device | str) -> "Normalisation":
        return Normalisation(**{name: tensor.to(device) for name, tensor in self.state().items()})

    def state(self) -> dict[str, Tensor]:
        """The tensors that define the map, by attribute name; ready for safetensors."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "Normalisation":
        """The inverse of :meth:`state`. Raises ``UserError`` for any other set of tensors."""
        if set(state) not in ({"mean", "std"}, {field.name for field in fields(cls)}):
            raise UserError(
                f"a normalisation of tensors {sorted(state)} is neither standard (mean, std) nor "
                "zca (centre, whiten and unwhiten as well); create its file again"
            )
        return cls(**state)


def _float_batches(images: np.ndarray | MappedImages) -> Iterator[Tensor]:
    """float32 (B, K, H, W) in 0..255; copies, because arrays shared by processes are read-only."""
    for start in range(0, len(images), _BATCH):
        yield torch.tensor(images[start : start + _BATCH], dtype=torch.float32)
