"""The first block against torch's operations and finite differences, as C kernels and without."""

import pytest
import torch
from kernelkit import randn
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, group_norm

from ltdd_ray.nn.kernels import first
from ltdd_ray.nn.kernels.reference import Affine

pytestmark = pytest.mark.usefixtures("implementation")
# (B, C, H, W): odd sizes; whole vectors of channels; channels and pixels of a row left over; the
# smallest image; more than one vector and a rest
SHAPES = [(3, 5, 7, 6), (2, 16, 8, 8), (1, 40, 5, 19), (2, 3, 2, 3), (3, 33, 6, 10)]


def block(x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    u = conv2d(x, weight, padding=1)
    return avg_pool2d(group_norm(u, u.shape[1], gamma, beta).relu(), 2)


def given(shape: tuple[int, ...], inputs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, channels, height, width = shape
    images, weight = randn(batch, inputs, height, width), randn(channels, inputs, 3, 3)
    return images, weight, randn(channels) + 1, randn(channels + 1)[1:] / 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
def test_value_and_gradients(implementation: str, shape: tuple[int, ...], inputs: int) -> None:
    x, weight, gamma, beta = tensors = given(shape, inputs)
    y, u, stats = first.forward(*tensors)
    assert (u is None) == (implementation == "compiled" and inputs < 4)
    y_bar = randn(*y.shape)
    bars = first.backward(x, weight, u, gamma, beta, stats, y_bar)
    image_bar = first.image_bar(*tensors, stats, y_bar)
    tracked = [tensor.requires_grad_() for tensor in tensors]
    oracle = block(*tracked)
    assert torch.allclose(y, oracle, rtol=1e-12, atol=1e-12)
    for bar, expected in zip(
        (image_bar, *bars), torch.autograd.grad(oracle, tracked, y_bar), strict=True
    ):
        assert torch.allclose(bar, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
@pytest.mark.parametrize("extra", [False, True])
def test_tangents_are_differences(shape: tuple[int, ...], inputs: int, extra: bool) -> None:
    """Every dot is the central difference along (weight_dot, gamma_dot, beta_dot, y_bar_dot)."""
    batch, channels, height, width = shape
    half = height // 2, width // 2
    x, weight, gamma, beta = given(shape, inputs)
    weight_dot = randn(inputs, channels, 3, 3).transpose(0, 1)
    affine = Affine(gamma, beta, randn(channels + 2)[2:], randn(channels + 3)[3:])
    y_pair = randn(batch, 2 * channels, *half)
    y_extra = randn(batch, channels, *half) if extra else None
    y_bar, y_bar_dot = y_pair.chunk(2, 1)
    y_bar_dot = y_bar_dot if y_extra is None else y_bar_dot + y_extra

    def at(e: float) -> list[Tensor]:
        moved = weight + e * weight_dot, gamma + e * affine.gamma_dot, beta + e * affine.beta_dot
        tracked = [tensor.detach().requires_grad_() for tensor in (x, *moved)]
        y = block(*tracked)
        return [y.detach(), *torch.autograd.grad(y, tracked, y_bar + e * y_bar_dot)]

    y, y_dot, u_pair, stats = first.tangent_forward(x, weight, weight_dot, affine)
    passed = x, weight, weight_dot, u_pair, affine, stats, y_pair, y_extra
    dots = first.tangent_backward(*passed, True)
    image_bar_alone, no_weights, *_ = first.tangent_backward(*passed, False)
    assert no_weights is None and torch.equal(image_bar_alone, dots[0])
    assert torch.allclose(y, at(0)[0], rtol=1e-12, atol=1e-12)
    e = 1e-6
    for found, ahead, behind in zip((y_dot, *dots), at(e), at(-e), strict=True):
        assert found is not None
        assert torch.allclose(found, (ahead - behind) / (2 * e), rtol=1e-5, atol=1e-6)


def test_single_precision_agrees_with_double() -> None:
    tensors = given((4, 20, 16, 16), 3)
    y, *_ = first.forward(*(tensor.float() for tensor in tensors))
    assert y.dtype == torch.float32
    assert torch.allclose(y.double(), block(*tensors), atol=1e-5)


def test_an_image_too_small_to_pool_is_refused() -> None:
    with pytest.raises(RuntimeError, match="2x2 pooling of 1x4 pixels"):
        first.forward(*given((1, 2, 1, 4), 3))
