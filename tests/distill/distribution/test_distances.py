"""The distances between embeddings, against NumPy in float64 one class and frequency at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import DistributionConfig, RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.distribution.distances import (
    Distance,
    characteristic_distance,
    mean_distance,
)
from ltdd_ray.distill.distribution.dm import DistributionMatching

FEATURES, FREQUENCIES = 4, 7
DRAW = torch.Generator().manual_seed(0)
REAL_CLASSES = torch.tensor([0] * 5 + [1] * 3 + [2])  # the last class has no spread
CLASSES = torch.tensor([0, 0, 1, 2, 2])
REAL = torch.randn(9, FEATURES, generator=DRAW, dtype=torch.float64) + 3
MADE = torch.randn(5, FEATURES, generator=DRAW, dtype=torch.float64) + 3
ALPHA = (0.5, 0.2, 0.9)


def distance_to(real: torch.Tensor, alpha: float | tuple[float, ...] = ALPHA) -> Distance:
    return characteristic_distance(
        real,
        REAL_CLASSES,
        3,
        frequencies=FREQUENCIES,
        alpha=alpha,
        draw=generator(0, "frequencies"),
    )


def by_hand(made: np.ndarray, alpha: tuple[float, ...]) -> float:
    points = torch.randn(FREQUENCIES, FEATURES, generator=generator(0, "frequencies"))
    real, total, spreads = REAL.numpy(), 0.0, []
    for k in range(3):
        own = real[REAL_CLASSES.numpy() == k]
        spreads.append(np.mean([np.sum((row - own.mean(0)) ** 2) for row in own]))
    for k in range(3):
        own, pictures = real[REAL_CLASSES.numpy() == k], made[CLASSES.numpy() == k]
        scale = np.sqrt(max(spreads[k], 0.1 * np.mean(spreads)))
        far = []
        for point in points.double().numpy() / scale:
            psi, phi = (np.mean(np.exp(1j * values @ point)) for values in (own, pictures))
            amplitude = (abs(phi) - abs(psi)) ** 2
            angle = np.angle(phi) - np.angle(psi)
            phase = 2 * abs(phi) * abs(psi) * (1 - np.cos(angle))
            far.append(np.sqrt(alpha[k] * amplitude + (1 - alpha[k]) * phase))
        total += np.mean(far)
    return float(total)


@pytest.mark.parametrize("alpha", [ALPHA, (0.0, 1.0, 0.5), (0.3, 0.3, 0.3)])
def test_the_value_by_hand(alpha: tuple[float, ...]) -> None:
    found = float(distance_to(REAL, alpha)(MADE, CLASSES))
    assert found == pytest.approx(by_hand(MADE.numpy(), alpha), rel=1e-6)
    if len(set(alpha)) == 1:
        assert found == pytest.approx(float(distance_to(REAL, alpha[0])(MADE, CLASSES)))


def test_the_gradient_by_finite_differences() -> None:
    made, distance = MADE.clone().requires_grad_(), distance_to(REAL)
    (found,) = torch.autograd.grad(distance(made, CLASSES), made)
    assert float(found.abs().min()) > 1e-3
    for row in range(len(made)):
        for column in range(FEATURES):
            step = torch.zeros_like(MADE)
            step[row, column] = 1e-6
            rise = distance(MADE + step, CLASSES) - distance(MADE - step, CLASSES)
            assert float(rise) / 2e-6 == pytest.approx(float(found[row, column]), rel=1e-5)


def test_equal_sets_have_no_distance_and_a_finite_gradient() -> None:
    """In another order, and with every image twice."""
    twice = torch.cat([REAL.flip(0), REAL]).requires_grad_()
    classes = torch.cat([REAL_CLASSES.flip(0), REAL_CLASSES])
    for distance in (distance_to(REAL), mean_distance(REAL, REAL_CLASSES, 3)):
        value = distance(twice, classes)
        (found,) = torch.autograd.grad(value, twice)
        assert float(value.detach()) < 1e-5 and bool(found.isfinite().all())


def test_rounding_pulls_at_no_picture() -> None:
    """Pictures equal to the real images of their classes, summed in another order in float32."""
    real = REAL.float()
    made = torch.cat([real.flip(0)] * 3).requires_grad_()
    distance = distance_to(real)
    (pull,) = torch.autograd.grad(distance(made, REAL_CLASSES.flip(0).repeat(3)), made)
    moved = (made.detach() + 0.1).requires_grad_()
    (usual,) = torch.autograd.grad(distance(moved, REAL_CLASSES.flip(0).repeat(3)), moved)
    assert 0 < float(pull.norm()) < 1e-3 * float(usual.norm())


def test_it_sees_what_the_mean_does_not() -> None:
    """Two images on both sides of the mean of five: their mean is right, their spread is not."""
    centre = REAL[:5].mean(0)
    near, far = (
        torch.stack([centre + s, centre - s]) for s in (torch.zeros(4), torch.full((4,), 9.0))
    )
    classes, rest = torch.tensor([0, 0, *CLASSES[2:].tolist()]), MADE[2:]
    mean, whole = mean_distance(REAL, REAL_CLASSES, 3), distance_to(REAL)
    values = [
        [float(d(torch.cat([two, rest]), classes)) for two in (near, far)] for d in (mean, whole)
    ]
    assert values[0][0] == pytest.approx(values[0][1]) and values[1][1] > values[1][0] + 0.1


def test_the_same_frequencies_for_real_and_synthetic_images_of_an_update(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """A network that embeds by identity: the images of every class twice are at no distance."""
    distribution = {"distance": "characteristic", "frequencies": 5, "real_batch": 2}
    distill = {"ipc": 2, "engine": "dm", "distribution": distribution}
    config = tiny(tmp_path, distill=distill, augmentation="")
    method = DistributionMatching(config, prepare_data(config), torch.device("cpu"))
    real, classes = method.images.detach().flatten(1), method.picture_classes
    first, again, second = (method.distance(real, classes, update) for update in (0, 0, 1))
    moved = real + 0.5
    assert float(first(real, classes)) < 1e-4 * 10
    assert torch.equal(first(moved, classes), again(moved, classes))
    assert not torch.equal(first(moved, classes), second(moved, classes))


def test_weights_must_fit_the_classes(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    distribution = {"distance": "characteristic", "alpha": (0.5, 0.2)}
    config = tiny(tmp_path, distill={"ipc": 2, "engine": "dm", "distribution": distribution})
    with pytest.raises(UserError, match=r"alpha has 2 numbers, but the data has 10 classes"):
        DistributionMatching(config, prepare_data(config), torch.device("cpu"))
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        DistributionConfig.model_validate({"alpha": 1.5})
