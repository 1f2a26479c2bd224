"""Batch-norm statistics of networks small enough to work out by hand."""

import pytest
import torch
from torch import Tensor, nn

from ltdd_ray.distill.distribution import statistics
from ltdd_ray.distill.distribution.statistics import (
    distances,
    forward,
    mean_and_variance,
    moments,
    recalibrate,
)

MEMBERS = [torch.tensor([0, 1, 2, 5, 6]), torch.tensor([3]), torch.tensor([4, 7])]
LABELS = torch.tensor([0, 0, 0, 1, 2, 0, 0, 2])
EQUAL = torch.full((3,), 1 / 3)


def images() -> Tensor:
    noise = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    return noise + LABELS.view(-1, 1, 1, 1)


def network() -> nn.Module:
    """Batch norms that are met in another order than they are registered in."""

    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.BatchNorm2d(3), nn.BatchNorm2d(2)
            self.convolution = nn.Conv2d(2, 3, 3)

        def forward(self, images: Tensor) -> Tensor:
            hidden = self.convolution(self.first(images)).relu()
            return self.second(hidden).mean((2, 3))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Crossed().eval()


def test_the_mean_is_that_of_balanced_classes_worked_out_by_hand() -> None:
    """Three images of value 1 and one of value 5: mean 3 and variance 4, where classes count."""
    x = torch.tensor([1.0, 1.0, 1.0, 5.0]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    members = [torch.tensor([0, 1, 2]), torch.tensor([3])]
    layer = nn.BatchNorm2d(1)
    model = nn.Sequential(layer, nn.Flatten()).eval()
    (found,) = recalibrate(model, x, members, torch.tensor([0.5, 0.5]))
    assert layer.running_mean.tolist() == [3.0] and layer.running_var.tolist() == [4.0]  # pyright: ignore
    assert found.tolist() == [[1.0, 1.0], [5.0, 25.0]]
    recalibrate(model, x, members, torch.tensor([0.75, 0.25]))
    assert layer.running_mean.tolist() == [2.0] and layer.running_var.tolist() == [3.0]  # pyright: ignore


@pytest.mark.parametrize("at_once", [2, 3, 512])
def test_every_layer_gets_the_statistics_behind_the_layers_before_it(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Against one pass through the finished network, whatever the batches are."""
    monkeypatch.setattr(statistics, "AT_ONCE", at_once)
    model, x = network(), images()
    before = {name: value.clone() for name, value in model.named_parameters()}
    found = recalibrate(model, x, MEMBERS, EQUAL)
    inputs = forward(model, x)[1]
    assert list(inputs) == [model.first, model.second], "in the order of the pass"
    for (layer, each), by_class in zip(inputs.items(), found):
        expected = torch.stack([each[own].mean(0) for own in MEMBERS])
        torch.testing.assert_close(by_class.float(), expected, rtol=1e-5, atol=1e-6)
        mean, variance = mean_and_variance(expected.mean(0))
        torch.testing.assert_close(layer.running_mean, mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(layer.running_var, variance, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert not model.training


def test_moments_are_means_over_the_pixels_of_each_image() -> None:
    x = torch.arange(8.0).view(1, 2, 2, 2)
    assert moments(x).tolist() == [[1.5, 5.5, 3.5, 31.5]]
    assert moments(torch.tensor([[2.0, -3.0]])).tolist() == [[2.0, -3.0, 4.0, 9.0]]


def test_distances_are_norms_of_the_differences_of_means_and_variances() -> None:
    x = images().double()
    mine, true = moments(x), moments(x.flip(0) * 1.3).double()
    real = torch.stack([true[own].mean(0) for own in MEMBERS])
    weights = torch.tensor([0.5, 0.2, 0.3])
    together, by_class = distances([mine, mine], LABELS, [real, 2 * real], weights)
    expected = [0.0, 0.0]
    for scale in (1, 2):
        own = torch.stack([mine[k == LABELS].mean(0) for k in range(3)])
        for a, b in zip(own, scale * real):
            for one, other in zip(mean_and_variance(a), mean_and_variance(b)):
                expected[1] += float((one - other).square().sum().sqrt()) / 3
        pairs = [(weights.double()[:, None] * each).sum(0) for each in (own, scale * real)]
        for one, other in zip(*map(mean_and_variance, pairs)):
            expected[0] += float((one - other).square().sum().sqrt())
    assert [float(together), float(by_class)] == pytest.approx(expected)


def test_the_slope_of_the_distances_is_that_of_finite_differences() -> None:
    """Through the network, in the pixels."""
    model, x = network().double(), images().double()
    real = recalibrate(model, x * 1.2 + 0.1, MEMBERS, EQUAL)

    def value(x: Tensor) -> Tensor:
        together, by_class = distances([*forward(model, x)[1].values()], LABELS, real, EQUAL)
        return together + 2 * by_class

    x.requires_grad_()
    (found,) = torch.autograd.grad(value(x), x)
    draw = torch.Generator().manual_seed(2)
    for _ in range(3):
        way = torch.randn(x.shape, dtype=x.dtype, generator=draw)
        with torch.no_grad():
            ahead, behind = (float(value(x + h * way)) for h in (1e-6, -1e-6))
        assert float((found * way).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-6)


def test_equal_statistics_have_no_distance_and_no_slope() -> None:
    x = images().requires_grad_()
    mine = moments(x)
    real = torch.stack([mine[own].mean(0) for own in MEMBERS]).detach()
    total = torch.stack(distances([mine], LABELS, [real], EQUAL)).sum()
    assert float(total.detach()) == pytest.approx(0, abs=1e-5)
    (slope,) = torch.autograd.grad(total, x)
    assert torch.isfinite(slope).all()
