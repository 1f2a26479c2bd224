"""DM on problems small enough to reason about: digits 8 x 8, C = 10 classes, 2 images each."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.distribution.dm import DistributionMatching, class_means, draw_balanced
from ltdd_ray.distill.distribution.loop import ENGINES
from ltdd_ray.nn.networks import Network

Tiny = Callable[..., RunConfig]
SETTINGS = {"updates": 4, "real_batch": 5, "lr_image": 0.1, "momentum_image": 0.0}


@pytest.fixture(scope="module")
def config(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    distill = {"ipc": 2, "engine": "dm", "distribution": SETTINGS}
    return tiny(tmp_path_factory.mktemp("dm"), distill=distill, augmentation="")


@pytest.fixture(scope="module")
def data(config: RunConfig) -> PreparedData:
    return prepare_data(config)


class Linear(DistributionMatching):
    """Embeds by the matrix W (5, 64)."""

    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))

    def network(self, optimiser, update) -> Network:
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
        backbone[1].weight.data = self.weight
        return Network(backbone, nn.Linear(5, 10))


def test_the_gradient_of_a_linear_embedding(config: RunConfig, data: PreparedData) -> None:
    """l_k = ||W (mean x - mean r)||^2 has the gradient (2 / ipc) W'W (mean x - mean r) by hand."""
    method = Linear(config, data, torch.device("cpu"))
    pictures, classes, real, real_classes = (tensor.detach() for tensor in method.batches(0))
    difference = (
        class_means(pictures.flatten(1), classes, 10)
        - class_means(real.flatten(1), real_classes, 10)
    ).double()
    weight = method.weight.double()
    expected = (2 / 2) * difference @ weight.T @ weight
    before = method.images.detach().clone()
    metrics = method.step(method.optimiser(), 0)
    moved = (method.images.detach() - before).flatten(1).double()
    torch.testing.assert_close(moved, -0.1 * expected.repeat_interleave(2, 0), rtol=1e-4, atol=1e-5)
    assert metrics == {
        "loss/total": pytest.approx(float((difference @ weight.T).square().sum()) / 10, rel=1e-4)
    }


def test_matched_means_stay(config: RunConfig, data: PreparedData) -> None:
    """With the real batch's own mean in the images of each class there is nothing left to do."""
    method = Linear(config, data, torch.device("cpu"))
    _, _, real, real_classes = method.batches(0)
    method.images.data = (
        class_means(real.flatten(1), real_classes, 10).view(10, 1, 8, 8).repeat_interleave(2, 0)
    )
    before = method.images.detach().clone()
    assert method.step(method.optimiser(), 0)["loss/total"] < 1e-9
    torch.testing.assert_close(method.images.detach(), before)


def test_every_class_gives_as_many_real_images(config: RunConfig, data: PreparedData) -> None:
    method = DistributionMatching(config, data, torch.device("cpu"))
    _, classes, real, real_classes = method.batches(3)
    assert torch.bincount(real_classes).tolist() == [5] * 10 and len(real) == 50
    assert classes.tolist() == [k for k in range(10) for _ in range(2)]
    assert not torch.equal(real, method.batches(4)[2])


def test_a_class_repeats_only_when_all_of_it_is_drawn() -> None:
    members = [torch.arange(10), torch.tensor([10, 11, 12])]
    many, few = draw_balanced(members, 7, generator(0, "test")).tolist()
    assert len(set(many)) == 7 and set(many) <= set(range(10))
    assert set(few[:3]) == set(few[3:6]) == {10, 11, 12}


def test_both_sides_of_a_class_get_the_same_augmentation(
    tiny: Tiny, config: RunConfig, data: PreparedData
) -> None:
    """Synthetic images that are the real batch itself stay equal to it under every draw."""
    augmented = config.model_copy(update={"augmentation": "color_crop_cutout_flip_scale_rotate"})
    method = DistributionMatching(augmented, data, torch.device("cpu"))
    for update in range(6):
        index = draw_balanced(
            method.members, 5, generator(config.seed, "distribution-real", update)
        )
        method.images.data = method.real[index[:, :2].flatten()]
        synthetic, _, real, _ = method.batches(update)
        torch.testing.assert_close(synthetic.view(10, 2, 64), real.view(10, 5, 64)[:, :2])


def test_networks_are_fresh_and_repeat_by_number(config: RunConfig, data: PreparedData) -> None:
    method = DistributionMatching(config, data, torch.device("cpu"))
    one, again, other = (
        method.network(method.optimiser(), update).classifier.weight for update in (1, 1, 2)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_rate_that_does_not_fit_is_named_before_it_spoils_the_images(
    config: RunConfig, data: PreparedData
) -> None:
    method = Linear(config, data, torch.device("cpu"))
    method.weight = method.weight * 1e25
    before = method.images.detach().clone()
    with pytest.raises(
        NonFiniteLossError,
        match=r"update 1: the loss is inf; lower distill\.distribution\.lr_image",
    ):
        method.step(method.optimiser(), 0)
    assert torch.equal(method.images.detach(), before)


@pytest.mark.parametrize("engine", ["dc", "dm", "idm"])
def test_classes_may_have_different_numbers_of_images(
    tiny: Tiny, tmp_path: Path, engine: str
) -> None:
    """Each class starts from its own real images; one that lacks them repeats augmented ones."""
    budget = {"per_class": (1, 4, *(2,) * 7, 16)}
    distill = {"engine": engine, "budget": budget, "distribution": SETTINGS}
    config = tiny(tmp_path, distill=distill)
    data = prepare_data(config)
    method = ENGINES[engine](config, data, torch.device("cpu"))
    assert torch.bincount(method.classes).tolist() == list(budget["per_class"])
    for picture, k in zip(method.images.detach(), method.classes.tolist()):
        own = method.real[method.labels == k]
        real = bool((own == picture).flatten(1).all(1).any())
        assert real or len(own) < budget["per_class"][k]
    smallest = int(data.train.class_counts[9])
    assert smallest < 16 and f"{16 - smallest} augmented" in method.describe_initial(data)[0]
    before = method.images.detach().clone()
    method.step(method.optimiser(), 0)
    assert bool((method.images.detach() != before).flatten(1).any(1).all())
