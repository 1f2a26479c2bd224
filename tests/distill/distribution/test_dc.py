"""Gradient matching on digits of 8 x 8 pixels: the distance by hand, its gradient, the networks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.functional import cross_entropy, one_hot

from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.distribution.dc import GradientMatching, row_distance
from ltdd_ray.nn.networks import Network, build_network

Tiny = Callable[..., RunConfig]
NETWORKS = {"updates_per_network": 3, "epochs": 2, "batch_size": 8, "lr": 0.1}
SETTINGS = {"updates": 6, "real_batch": 5, "lr_image": 0.1, "gradient": NETWORKS}


@pytest.fixture(scope="module")
def config(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    distill = {"ipc": 2, "engine": "dc", "distribution": SETTINGS}
    return tiny(tmp_path_factory.mktemp("dc"), distill=distill, augmentation="")


@pytest.fixture(scope="module")
def data(config: RunConfig) -> PreparedData:
    return prepare_data(config)


@pytest.fixture
def method(config: RunConfig, data: PreparedData) -> GradientMatching:
    return GradientMatching(config, data, torch.device("cpu"))


def test_the_distance_counts_the_angle_of_each_row() -> None:
    """Equal directions cost 0, right angles 1, opposite ones 2, and lengths nothing."""
    one = torch.tensor([[1.0, 0], [0, 3], [1, 1], [0, 0]])
    other = torch.tensor([[5.0, 0], [2, 0], [-1, -1], [1, 0]])
    assert float(row_distance([one], [other])) == pytest.approx(0 + 1 + 2 + 1, abs=1e-5)
    layer = one.view(2, 2, 2, 1)  # two outputs of four weights each: cosines by hand
    expected = (1 - 5 / (10**0.5 * 29**0.5)) + (1 + 2 / (2**0.5 * 3**0.5))
    found = row_distance([layer, one], [other.view(2, 2, 2, 1), one])
    assert float(found) == pytest.approx(expected + 1, abs=1e-5), "a row of zeros costs 1"


def test_the_loss_of_a_linear_network_by_hand(method: GradientMatching) -> None:
    """Row c of the gradient over W is the mean of (p_c - y_c) x."""
    network = Network(nn.Flatten(), nn.Linear(64, 10))
    synthetic, classes, real, real_classes = method.batches(0)

    def gradient(images: Tensor, k: int) -> Tensor:
        x = images.flatten(1)
        p = network.classifier(x).softmax(1)
        return (p - one_hot(torch.tensor(k), 10)).T @ x / len(x)

    expected = torch.zeros(())
    for k in range(10):
        one, other = gradient(synthetic[classes == k], k), gradient(real[real_classes == k], k)
        expected = expected + (1 - torch.cosine_similarity(one, other, dim=1)).sum()
    found, _ = method.loss(network, synthetic, classes, real, real_classes, 0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_gradient_is_that_of_finite_differences(
    method: GradientMatching, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, along random directions of the images."""
    model = method.config.model.model_copy(update={"norm": norm})
    changed = method.config.model_copy(update={"model": model})
    monkeypatch.setattr(method, "config", changed)
    synthetic, classes, real, real_classes = method.batches(0)
    network = build_network(model, method.shape, 10, seed=1).double()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def loss(images: Tensor) -> Tensor:
        network.load_state_dict(state)
        return method.loss(network, images, classes, real.double(), real_classes, 0)[0]

    x = synthetic.detach().double().requires_grad_()
    (found,) = grad(loss(x), x)
    assert network.training == (norm == "instance"), "statistics are those of all real images"
    draw, step = torch.Generator().manual_seed(0), 1e-6
    for _ in range(5):
        v = torch.randn(x.shape, generator=draw, dtype=torch.float64)
        expected = (loss(x + step * v) - loss(x - step * v)) / (2 * step)
        torch.testing.assert_close((found * v).sum(), expected, rtol=1e-5, atol=1e-7)


def test_the_real_images_themselves_are_at_distance_zero(method: GradientMatching) -> None:
    _, _, real, real_classes = method.batches(0)
    found, _ = method.loss(
        method.network(method.optimiser(), 0), real, real_classes, real, real_classes, 0
    )
    assert 0 <= float(found.detach()) < 0.5, (
        "only rows without a gradient count, by the EPS of the norms"
    )


def test_each_network_serves_its_updates_and_learns_the_pictures(
    method: GradientMatching,
) -> None:
    optimiser, weights = method.optimiser(), []

    def entropy() -> float:
        pictures = method.pictures().detach()
        return float(cross_entropy(method.trained(pictures), method.picture_classes).detach())

    for update in range(6):
        network = method.network(optimiser, update)
        weights.append(network.classifier.weight.detach().clone())
        before = entropy()
        method.between_updates(optimiser, update)
        assert entropy() == before if update % 3 == 2 else entropy() < before
    for update in (0, 3):
        fresh = method.fresh_network(update // 3).classifier.weight
        assert torch.equal(weights[update], fresh)
    assert len({float(weight.norm()) for weight in weights}) == 6


def test_an_update_moves_the_images_alone(method: GradientMatching) -> None:
    optimiser = method.optimiser()
    network, images = method.network(optimiser, 2), method.images.detach().clone()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    method.step(optimiser, 2)  # the last update of a network, which is not trained again
    assert all(map(torch.equal, network.parameters(), before))
    assert not torch.equal(method.images.detach(), images)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_updates_bring_the_gradients_of_both_sides_together(
    tiny: Tiny, config: RunConfig, data: PreparedData
) -> None:
    settings = config.distill.distribution.model_copy(update={"real_batch": 20})
    distill = config.distill.model_copy(update={"distribution": settings})
    changed = config.model_copy(update={"distill": distill})
    method = GradientMatching(changed, data, torch.device("cpu"))
    optimiser, network = method.optimiser(), method.fresh_network(99)

    def loss() -> float:
        return float(method.loss(network, *method.batches(0), 0)[0].detach())

    before = loss()
    for update in range(30):
        method.step(optimiser, update)
    assert loss() < 0.9 * before
