"""How far the embeddings of two sets of images are from each other, class by class.

Two distances, each a sum over classes:

- ``mean`` (DM): || mean_i f_i - mean_j g_j ||^2.
- ``characteristic`` (NCFM; Wang et al., CVPR 2025): of the characteristic functions
  phi(t) = mean_i exp(i <t, f_i>), which hold all moments of a distribution,

      mean_t sqrt(alpha (|phi| - |psi|)^2 + (1 - alpha) 2 |phi| |psi| (1 - cos(angle)))

  with phi of the pictures, psi of the real images, and the angle between the two. The first term
  compares amplitudes, which tell how widely images are spread, the second phases, which tell where
  they lie. For alpha = 1/2 the root is |phi - psi| / sqrt(2).

Deviations: NCFM learns the distribution of the frequencies t with a network that maximises the
distance. Here they are standard normal, drawn anew for every update, and divided by the spread of
the class's real embeddings: the root of their mean squared distance from their mean. Embeddings are
centred at that mean, which changes no distance and keeps cos and sin accurate.

B images, C classes, F features, Q frequencies.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

Distance = Callable[[Tensor, Tensor], Tensor]  # of features (B, F) and classes (B,): a sum ()

# Of the mean spread of all classes, squared: a class of one image has no spread of its own.
FLOOR = 0.1
# In rounding errors of a characteristic function, whose values are at most 1. Smaller differences
# pull less. Where pictures are the real images of a small class, the difference is rounding alone,
# and a plain root, with its infinite slope at 0, would make it a pull of full strength.
SMALLEST = 3e4  # 0.0036 in float32; means over 64 images differ by 0.1 from draw to draw


def class_means(values: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """The mean (C, F) of ``values`` (B, F) over the members of each class, none empty."""
    sums = values.new_zeros(num_classes, values.shape[1]).index_add(0, classes, values)
    return sums / torch.bincount(classes, minlength=num_classes)[:, None]


def mean_distance(real: Tensor, real_classes: Tensor, num_classes: int) -> Distance:
    """The distance from embeddings ``real`` (R, F) of ``real_classes`` (R,)."""
    target = class_means(real, real_classes, num_classes)
    return lambda features, classes: (
        (class_means(features, classes, num_classes) - target).square().sum()
    )


def characteristic_distance(
    real: Tensor,
    real_classes: Tensor,
    num_classes: int,
    *,
    frequencies: int,
    alpha: float | Sequence[float],
    draw: Generator,
) -> Distance:
    """As :func:`mean_distance`, at ``frequencies`` points.

    ``alpha`` is the weight of amplitudes, one number or one for each class.
    """
    centre = class_means(real, real_classes, num_classes)
    spread = class_means(
        (real - centre[real_classes]).square().sum(1, keepdim=True), real_classes, num_classes
    )
    scale = torch.maximum(spread, FLOOR * spread.mean()).sqrt()  # (C, 1)
    scale = scale.clamp(min=torch.finfo(scale.dtype).eps)
    points = torch.randn(frequencies, real.shape[1], generator=draw).to(real.device, real.dtype)
    weight = torch.as_tensor(alpha, dtype=real.dtype, device=real.device).reshape(-1, 1)

    def function(features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part (C, Q)."""
        angles = ((features - centre[classes]) / scale[classes]) @ points.T
        parts = torch.cat([angles.cos(), angles.sin()], 1)
        cosine, sine = class_means(parts, classes, num_classes).split(frequencies, 1)
        return cosine, sine

    cosine, sine = function(real, real_classes)
    amplitude = _root(cosine.square() + sine.square())

    def distance(features: Tensor, classes: Tensor) -> Tensor:
        own_cosine, own_sine = function(features, classes)
        own = _root(own_cosine.square() + own_sine.square())
        amplitudes = (own - amplitude).square()
        # The law of cosines, in the form that is exact where the functions are nearly equal.
        phases = (own_cosine - cosine).square() + (own_sine - sine).square() - amplitudes
        return _root(weight * amplitudes + (1 - weight) * phases).mean(1).sum()

    return distance


def _root(squares: Tensor) -> Tensor:
    """sqrt(x + s^2) - s for x = ``squares``, with s = ``SMALLEST`` rounding errors.

    0 at 0, and the root of x where that is large. Rounding may leave x slightly below 0.
    """
    smallest = SMALLEST * torch.finfo(squares.dtype).eps
    squares = squares.clamp(min=0)
    return squares / ((squares + smallest**2).sqrt() + smallest)
