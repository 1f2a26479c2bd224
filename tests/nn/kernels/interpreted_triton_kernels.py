"""The Triton kernels against the reference implementation.

``test_triton_kernels.py`` runs this file under Triton's interpreter.
"""

import pytest
import torch
from torch import Tensor

from ltdd_ray.bench.gradients import errors
from ltdd_ray.bench.problem import Problem
from ltdd_ray.bench.sizes import Sizes
from ltdd_ray.nn.kernels import fused, reference, triton
from ltdd_ray.nn.kernels.fused import channels_last
from ltdd_ray.nn.kernels.reference import Affine

# One tile a block of channels; then several tiles of windows, the last of them cut off or whole.
SHAPES = [(2, 5, 8, 6), (1, 20, 4, 4), (1, 9, 36, 38), (1, 3, 64, 64)]


def randn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    tensor = torch.randn(
        *shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64
    ).to(dtype)
    return channels_last(tensor) if len(shape) == 4 else tensor


def affine(channels: int, dtype: torch.dtype = torch.float64) -> Affine:
    return Affine(*(randn(4, channels, dtype=dtype)))


def close(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], bound: float = 1e-9) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() <= bound * other.norm()


@pytest.mark.parametrize(("shape", "tiles"), list(zip(SHAPES, [1, 1, 3, 8])))
def test_large_images_take_several_tiles(shape: tuple[int, int, int, int], tiles: int) -> None:
    _, channels, height, width = shape
    windows, _ = triton.tile_shape(height, width, channels)
    assert -(-height * width // 4 // windows) == tiles


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(shape: tuple[int, int, int, int]) -> None:
    u, a = randn(*shape), affine(shape[1])
    y, stats = triton.forward(u, a.gamma, a.beta)
    close((y,), (reference.forward(u, a.gamma, a.beta),))
    y_bar = channels_last(randn(*y.shape) + 1)
    close(
        triton.backward(u, a.gamma, a.beta, stats, y_bar),
        reference.backward(u, a.gamma, a.beta, y_bar),
    )


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_tangents(shape: tuple[int, int, int, int], extra: bool) -> None:
    batch, channels, height, width = shape
    a, u_pair, u_extra = (
        affine(channels),
        randn(batch, 2 * channels, height, width),
        randn(*shape) if extra else None,
    )
    u, u_dot = (
        u_pair[:, :channels].clone(),
        u_pair[:, channels:] + (u_extra if u_extra is not None else 0),
    )
    y, y_dot, stats = triton.tangent_forward(u_pair, u_extra, a)
    close((y, y_dot), reference.tangent_forward(u, u_dot, a))
    y_bar_pair, y_bar_extra = (
        randn(batch, 2 * channels, height // 2, width // 2),
        channels_last(randn(*y.shape) - 1) if extra else None,
    )
    y_bar, y_bar_dot = (
        y_bar_pair[:, :channels],
        y_bar_pair[:, channels:] + (y_bar_extra if y_bar_extra is not None else 0),
    )
    close(
        triton.tangent_backward(u_pair, a, stats, y_bar_pair, y_bar_extra),
        reference.tangent_backward(u, u_dot, a, y_bar, y_bar_dot),
    )


def test_half_precision_is_computed_in_single() -> None:
    u, a = randn(*SHAPES[0], dtype=torch.bfloat16), affine(SHAPES[0][1], torch.float32)
    y, stats = triton.forward(u, a.gamma, a.beta)
    close((y,), (reference.forward(u, a.gamma, a.beta),), 1e-2)
    y_bar = channels_last(randn(*y.shape, dtype=torch.bfloat16))
    close(
        triton.backward(u, a.gamma, a.beta, stats, y_bar),
        reference.backward(u, a.gamma, a.beta, y_bar),
        1e-2,
    )


def test_the_passes_of_a_network_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matching of both scopes, with every fused operation computed by these kernels."""
    problem = Problem(
        Sizes(width=4, depth=2, image_size=8, classes=3, images=3, steps=2), torch.float64
    )
    expected = [problem.engine(scope, "exact", 2) for scope in ("backbone", "classifier")]
    used: list[bool] = []
    monkeypatch.setattr(fused, "_triton_kernels", lambda u: used.append(True) or triton)
    for scope, match in zip(("backbone", "classifier"), expected):
        assert max(errors(problem.engine(scope, "exact", 2), match).values()) < 1e-9
    assert used
