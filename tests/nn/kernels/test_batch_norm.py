"""The layer of batch norm, ReLU and pooling against torch's layers, with kernels and without."""

from collections.abc import Callable

import pytest
import torch
from kernelkit import randn
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ltdd_ray.nn.kernels import batch_norm
from ltdd_ray.nn.kernels.batch_norm import BatchNormReluPool

# The kernels take those of even height; at a height of five they would pool across images.
SHAPES = [(3, 5, 6, 7), (2, 16, 8, 8), (1, 40, 4, 5), (4, 3, 2, 2), (3, 4, 5, 6)]


class Stock(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return avg_pool2d(super().forward(input).relu(), 2)


def layers(channels: int) -> tuple[BatchNormReluPool, Stock]:
    """Two of equal parameters and running averages, in training mode."""
    ours, stock = BatchNormReluPool(channels).double(), Stock(channels).double()
    with torch.no_grad():
        ours.weight.copy_(randn(channels) + 1)
        ours.bias.copy_(randn(channels) / 2)
        assert ours.running_mean is not None and ours.running_var is not None
        ours.running_mean.copy_(randn(channels))
        ours.running_var.copy_(randn(channels).exp())
    stock.load_state_dict(ours.state_dict())
    return ours, stock


@pytest.mark.parametrize("shape", SHAPES)
def test_values_gradients_second_gradients_and_averages(
    implementation: str, shape: tuple[int, ...]
) -> None:
    ours, stock = layers(shape[1])
    u = randn(*shape)

    def through(layer: nn.BatchNorm2d) -> list[Tensor]:
        torch.manual_seed(0)
        given = [u.clone().requires_grad_(), layer.weight, layer.bias]
        y = layer(given[0])
        first = torch.autograd.grad((y * torch.randn_like(y)).sum(), given, create_graph=True)
        mixed = torch.stack([(bar * torch.randn_like(bar)).sum() for bar in first]).sum()
        return [y, *first, *torch.autograd.grad(mixed, given)]

    for found, oracle in zip(through(ours), through(stock), strict=True):
        torch.testing.assert_close(found, oracle, rtol=1e-9, atol=1e-11)
    assert ours.state_dict().keys() == stock.state_dict().keys()
    for name, oracle in stock.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], oracle, rtol=1e-12, atol=0, msg=name)

    ours.eval(), stock.eval()
    torch.testing.assert_close(ours(u), stock(u), rtol=1e-12, atol=0)


@pytest.mark.parametrize("implementation", ["compiled"], indirect=True)
def test_the_kernels_are_used_for_even_heights_in_training(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []
    operation: Callable[..., tuple[Tensor, Tensor]] = batch_norm.norm_relu_pool

    def watched(u: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(tuple(u.shape))
        return operation(u, *rest)

    monkeypatch.setattr(batch_norm, "norm_relu_pool", watched)
    ours, _ = layers(3)
    ours(randn(2, 3, 4, 5)), ours(randn(2, 3, 5, 4)), ours.eval()(randn(2, 3, 4, 4))
    assert asked == [(1, 3, 8, 5)]


def test_float32_statistics_of_a_large_batch() -> None:
    """A quarter of a million values a channel, far from zero, are summed one after the other."""
    torch.manual_seed(0)
    u = torch.randn(256, 16, 32, 32) + 3
    ours, stock = BatchNormReluPool(16), Stock(16)
    torch.testing.assert_close(ours(u), stock(u), rtol=1e-4, atol=1e-4)
    assert ours.running_var is not None and stock.running_var is not None
    torch.testing.assert_close(ours.running_var, stock.running_var, rtol=1e-4, atol=0)
