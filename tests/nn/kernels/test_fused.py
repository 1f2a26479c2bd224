"""The fused operation against torch's operations, as C kernels and as reference implementation."""

import logging
from collections.abc import Callable

import pytest
import torch
from kernelkit import randn
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import avg_pool2d, group_norm

from ltdd_ray.nn.kernels import build, fused
from ltdd_ray.nn.kernels.fused import NormReluPool
from ltdd_ray.nn.kernels.reference import Affine

SHAPES = [(3, 5, 7, 6), (2, 16, 8, 8), (1, 40, 5, 4), (2, 3, 2, 3)]


def stock(u: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return avg_pool2d(group_norm(u, u.shape[1], gamma, beta).relu(), 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_gradients_and_second_gradients(implementation: str, shape: tuple[int, ...]) -> None:
    layer = NormReluPool(shape[1]).double()
    inputs = [
        tensor.requires_grad_()
        for tensor in (randn(*shape), randn(shape[1]) + 1, randn(shape[1]) / 2)
    ]
    layer.weight, layer.bias = (
        torch.nn.Parameter(inputs[1].detach()),
        torch.nn.Parameter(inputs[2].detach()),
    )
    assert torch.allclose(layer(inputs[0]), stock(*inputs), rtol=1e-12)

    def through(function: Callable[..., Tensor], given: list[Tensor]) -> list[Tensor]:
        y = function(*given)
        first = torch.autograd.grad((y * randn(*y.shape)).sum(), given, create_graph=True)
        second = torch.autograd.grad(sum((bar * randn(*bar.shape)).sum() for bar in first), given)
        return [*first, *second]

    ours = through(lambda u, g, b: fused.norm_relu_pool(u, g, b)[0], inputs)
    for found, oracle in zip(ours, through(stock, inputs)):
        assert torch.allclose(found, oracle, rtol=1e-9, atol=1e-11)


def test_the_layer_is_differentiable_twice(implementation: str) -> None:
    inputs = [tensor.requires_grad_() for tensor in (randn(2, 3, 4, 4), randn(3), randn(3))]

    def operation(*given: Tensor) -> Tensor:
        return fused.norm_relu_pool(*given)[0]

    assert gradcheck(operation, inputs)
    assert gradgradcheck(operation, inputs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("extra", [False, True])
def test_tangents_are_differences(implementation: str, shape: tuple[int, ...], extra: bool) -> None:
    """Every dot is the central difference along (u_dot, gamma_dot, beta_dot, y_bar_dot)."""
    batch, channels, height, width = shape
    pair, half = randn(batch, 2 * channels, height, width), (height // 2, width // 2)
    u_extra, y_extra = (
        randn(batch, channels, *size) if extra else None for size in ((height, width), half)
    )
    y_pair = randn(batch, 2 * channels, *half)
    affine = Affine(*(randn(channels + k)[:channels] for k in range(4)))
    (u, u_dot), (y_bar, y_bar_dot) = pair.clone().chunk(2, 1), y_pair.chunk(2, 1)
    if u_extra is not None and y_extra is not None:
        u_dot, y_bar_dot = u_dot + u_extra, y_bar_dot + y_extra

    def at(e: float) -> list[Tensor]:
        moved = (
            u + e * u_dot,
            affine.gamma + e * affine.gamma_dot,
            affine.beta + e * affine.beta_dot,
        )
        given = [tensor.detach().requires_grad_() for tensor in moved]
        y = stock(*given)
        return [y.detach(), *torch.autograd.grad(y, given, y_bar + e * y_bar_dot)]

    y, y_dot, stats = fused.tangent_forward(pair, u_extra, affine)
    u_bar, *dots = fused.tangent_backward(pair, affine, stats, y_pair, y_extra)
    assert torch.allclose(y, at(0)[0])
    assert torch.allclose(u_bar, at(0)[1])
    e = 1e-6
    for found, ahead, behind in zip([y_dot, *dots], at(e), at(-e)):
        assert torch.allclose(found, (ahead - behind) / (2 * e), rtol=1e-5, atol=1e-6)


def test_single_precision_agrees_with_double(implementation: str) -> None:
    u, gamma, beta = randn(4, 20, 8, 8), randn(20), randn(20)
    y, _ = fused.forward(u.float(), gamma.float(), beta.float())
    assert y.dtype == torch.float32
    assert torch.allclose(y.double(), stock(u, gamma, beta), atol=1e-5)


def test_nan_comes_through(implementation: str) -> None:
    u = randn(1, 3, 4, 4)
    u[0, 1, 2, 2] = torch.nan
    y, _ = fused.forward(u, torch.ones(3).double(), torch.zeros(3).double())
    assert y.isnan().any(3).any(2).tolist() == [[False, True, False]]


def test_an_image_too_small_to_pool_is_refused() -> None:
    with pytest.raises(RuntimeError, match="2x2 pooling of 1x4 pixels"):
        NormReluPool(2)(torch.zeros(1, 2, 1, 4))


def test_without_a_compiler_it_warns_once_and_uses_the_reference(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    build.load_kernels.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            layer = NormReluPool(4)
            assert layer(torch.randn(2, 4, 4, 4)).shape == (2, 4, 2, 2)
            layer(torch.randn(2, 4, 4, 4))
        (record,) = caplog.records
        assert "slower torch operations" in record.message
        assert not list(tmp_path.rglob("*.so"))
    finally:
        build.load_kernels.cache_clear()


def test_each_library_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    if build.load_kernels("float") is None:
        pytest.skip("no C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.load_kernels.cache_clear()
    try:
        build.load_kernels("float")
        (library,) = tmp_path.rglob("*.so")
        built = library.stat().st_mtime_ns
        build.load_kernels.cache_clear()
        build.load_kernels("float")
        assert library.stat().st_mtime_ns == built
        build.load_kernels("double")
        assert len(list(tmp_path.rglob("*"))) == 5  # the folder, two libraries, their checksums
    finally:
        build.load_kernels.cache_clear()
