"""Winograd's convolution against torch's, and where it is used."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ltdd_ray.config import ModelConfig
from ltdd_ray.nn.convnet_passes import ConvNetPasses
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.kernels import build, convolution, winograd
from ltdd_ray.nn.losses import soft_cross_entropy
from ltdd_ray.nn.networks import build_network
from ltdd_ray.nn.passes import Passes

# (B, K, C, H, W): whole tiles; tiles over both borders; one tile per image; many input channels;
# one image of 64 x 64; the fewest tiles of narrow and of wide layers
SHAPES = [
    (4, 64, 128, 16, 16),
    (12, 128, 64, 7, 11),
    (70, 64, 64, 4, 4),
    (8, 192, 64, 13, 18),
    (1, 64, 64, 64, 64),
    (16, 32, 32, 16, 16),
    (9, 32, 96, 10, 13),
    (10, 64, 64, 8, 8),
    (1, 256, 256, 32, 32),
]


@pytest.fixture(autouse=True)
def compiled() -> None:
    if build.load_kernels("float") is None:
        pytest.skip("no C compiler")


def pixels(*shape: int) -> Tensor:
    tensor = torch.randn(
        *shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64
    )
    return tensor.contiguous(memory_format=torch.channels_last)


def segment(shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """x, x_dot, u_bar, u_bar_dot, w, w_dot."""
    batch, inputs, outputs, height, width = shape
    x, u = pixels(2 * batch, inputs, height, width), pixels(2 * batch, outputs, height, width)
    w = torch.randn(
        2, outputs, inputs, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return (*x.chunk(2), *u.chunk(2), *w)


def oracle(x: Tensor, w: Tensor, u_bar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u, x_bar and w_bar as torch differentiates them."""
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    u = conv2d(x, w, padding=1)
    x_bar, w_bar = torch.autograd.grad(u, (x, w), u_bar)
    return u.detach(), x_bar, w_bar


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_convolution_and_both_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, bound: float
) -> None:
    x, _, u_bar, _, w, _ = segment(shape)
    given = x.to(dtype), u_bar.to(dtype), w.to(dtype)
    assert winograd.suits(given[0], len(w))
    assert winograd.suits(given[1], w.shape[1])
    u, x_bar, w_bar = oracle(x, w, u_bar)
    assert error(convolution.convolution(given[0], given[2]), u) < bound
    assert error(convolution.input_bar(given[1], given[2]), x_bar) < bound
    assert error(convolution.weight_bar(*given), w_bar) < bound


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("moving", [False, True])
def test_a_pair_holds_the_derivative(shape: tuple[int, ...], moving: bool) -> None:
    x, x_dot, _, _, w, w_dot = segment(shape)
    pair, extra = convolution.convolution_pair(x, x_dot if moving else None, w, w_dot)
    assert extra is None
    assert error(pair[:, : len(w)], conv2d(x, w, padding=1)) < 1e-13
    derivative = conv2d(x, w_dot, padding=1) + (conv2d(x_dot, w, padding=1) if moving else 0)
    assert error(pair[:, len(w) :], derivative) < 1e-13


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pair_of_input_gradients(shape: tuple[int, ...]) -> None:
    x, _, u_bar, u_bar_dot, w, w_dot = segment(shape)
    pair, extra = convolution.input_bar_pair(u_bar, u_bar_dot, w, w_dot)
    assert extra is None
    at_rest, moving = (
        oracle(x, w, u_bar)[1],
        oracle(x, w_dot, u_bar)[1] + oracle(x, w, u_bar_dot)[1],
    )
    assert error(pair, torch.cat([at_rest, moving], 1)) < 1e-13


@pytest.mark.parametrize("shape", SHAPES)
def test_the_derivative_of_the_weight_gradient(shape: tuple[int, ...]) -> None:
    x, x_dot, u_bar, u_bar_dot, w, _ = segment(shape)
    expected = oracle(x, w, u_bar_dot)[2] + oracle(x_dot, w, u_bar)[2]
    assert error(convolution.weight_bar_dot(x, x_dot, u_bar, u_bar_dot, w), expected) < 1e-13


def test_results_do_not_depend_on_threads() -> None:
    x, x_dot, u_bar, u_bar_dot, w, w_dot = (
        tensor.float() for tensor in segment((20, 128, 64, 8, 8))
    )

    def results() -> list[Tensor]:
        pair, _ = convolution.convolution_pair(x, x_dot, w, w_dot)
        return [
            pair,
            convolution.weight_bar(x, u_bar, w),
            convolution.weight_bar_dot(x, x_dot, u_bar, u_bar_dot, w),
        ]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results()
        torch.set_num_threads(3)
        assert all(torch.equal(one, other) for one, other in zip(results(), alone, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_nan_comes_through() -> None:
    x, w = (
        torch.ones(4, 64, 16, 16).contiguous(memory_format=torch.channels_last),
        torch.ones(64, 64, 3, 3),
    )
    x[2, 5, 7, 7] = torch.nan
    u = convolution.convolution(x, w)
    assert u[2, :, 6:9, 6:9].isnan().all()
    assert u[[0, 1, 3]].isfinite().all()


@pytest.mark.parametrize(
    ("shape", "channels_out", "dtype"),
    [
        ((64, 16, 16, 16), 64, torch.float32),  # too narrow
        ((64, 64, 16, 16), 80, torch.float32),
        ((1, 64, 16, 16), 64, torch.float32),  # too few tiles
        ((9, 64, 8, 8), 64, torch.float32),
        ((15, 128, 8, 8), 128, torch.float32),
        ((64, 64, 5, 5), 64, torch.float32),  # tiles mostly outside of the image
        ((64, 64, 16, 16), 64, torch.bfloat16),
    ],
)
def test_torch_is_used_where_it_is_faster(
    shape: tuple[int, ...], channels_out: int, dtype: torch.dtype
) -> None:
    assert not winograd.suits(torch.empty(shape, dtype=dtype), channels_out)


def test_without_kernels_torch_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, x_dot, u_bar, u_bar_dot, w, w_dot = segment((4, 64, 64, 16, 16))

    def results() -> list[Tensor]:
        sums = []
        for pair, extra in (
            convolution.convolution_pair(x, x_dot, w, w_dot),
            convolution.input_bar_pair(u_bar, u_bar_dot, w, w_dot),
        ):
            sums.append(
                pair if extra is None else pair + torch.cat([torch.zeros_like(extra), extra], 1)
            )
        return [
            *sums,
            convolution.convolution(x, w),
            convolution.input_bar(u_bar, w),
            convolution.weight_bar(x, u_bar, w),
            convolution.weight_bar_dot(x, x_dot, u_bar, u_bar_dot, w),
        ]

    compiled = results()
    monkeypatch.setattr(build, "load_kernels", lambda real: None)
    for one, other in zip(results(), compiled, strict=True):
        assert error(one, other) < 1e-13


def test_the_layer_is_differentiable_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's layer without its bias."""
    x, x_dot, u_bar, _, w, w_dot = segment((12, 64, 64, 8, 12))
    layer = convolution.Convolution(64, 64).double()

    def derivatives() -> list[Tensor]:
        given = [
            x.clone().requires_grad_(),
            w.clone().requires_grad_(),
            u_bar.clone().requires_grad_(),
        ]
        u = torch.func.functional_call(
            layer, {"weight": given[1], "bias": torch.zeros(64).double()}, (given[0],)
        )
        first = torch.autograd.grad(u, given[:2], given[2], create_graph=True)
        second = torch.autograd.grad(first, given, (x_dot, w_dot), retain_graph=True)
        return [tensor.detach() for tensor in (u, *first, *second)]

    used = []
    monkeypatch.setattr(
        winograd,
        "_call",
        lambda name, *rest, call=winograd._call: (used.append(name), call(name, *rest)),
    )
    ours = derivatives()
    assert sorted(used) == ["convolve"] * 5 + ["taps_gradient"] * 2
    monkeypatch.setattr(winograd, "suits", lambda *_: False)
    for one, other in zip(ours, derivatives(), strict=True):
        assert error(one, other) < 1e-13


def test_the_layers_bias_has_a_gradient_of_zero() -> None:
    layer = convolution.Convolution(64, 64)
    layer(torch.randn(4, 64, 16, 16)).sum().backward()
    assert layer.bias is not None and layer.bias.grad is not None and not layer.bias.grad.any()
    assert layer.weight.grad is not None and layer.weight.grad.all()


def test_a_wide_network_has_the_gradients_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(ModelConfig(width=64, depth=2), (3, 16, 16), 5, seed=0).double()
    flat = FlatModel(network)
    draw = torch.Generator().manual_seed(2)
    theta = flat.initial().double()
    v, images, labels = (
        torch.randn(*shape, generator=draw, dtype=torch.float64)
        for shape in (theta.shape, (16, 3, 16, 16), (16, 5))
    )
    used = []
    monkeypatch.setattr(
        winograd,
        "_call",
        lambda name, *rest, call=winograd._call: (used.append(name), call(name, *rest)),
    )
    by_hand = ConvNetPasses(flat, soft_cross_entropy, None)
    found = [
        by_hand.gradient(theta, images, labels),
        *by_hand.hvp(theta, v, images, labels, True),
    ]
    assert len(used) == (1 + 1 + 1) + (1 + 1 + 1)  # of the second layer
    autograd = Passes(flat.logits, soft_cross_entropy, None)
    for one, other in zip(
        found,
        [autograd.gradient(theta, images, labels), *autograd.hvp(theta, v, images, labels, True)],
        strict=True,
    ):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
