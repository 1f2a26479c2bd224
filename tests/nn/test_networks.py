import pytest
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ModelConfig
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.networks import build_network


def flat(shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, **settings) -> FlatModel:
    return FlatModel(build_network(ModelConfig(**settings), shape, classes, seed=0))


def test_parameter_counts_are_the_published_ones() -> None:
    layout = flat().layout
    assert (layout.size, layout.backbone_size) == (320_010, 299_520)
    tiny = flat((3, 64, 64), 200, depth=4).layout
    assert (tiny.size, tiny.backbone_size) == (857_160, 447_360)


@pytest.mark.parametrize("name", ["convnet", "alexnet", "vgg11", "resnet18"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_flat_forward_is_the_modules_own(name: str, norm: str) -> None:
    model = flat(name=name, norm=norm, width=8)
    images = torch.randn(4, 3, 32, 32)
    theta = model.initial()
    logits = model.logits(theta, images)
    torch.testing.assert_close(logits, model.model(images))
    features = model.features(theta, images)
    torch.testing.assert_close(model.head(model.split(theta)[1], features), logits)


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    assert torch.equal(flat().initial(), flat().initial())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 20), (3, 8, 8)])
def test_grey_odd_and_oblong_images(shape: tuple[int, int, int]) -> None:
    model = flat(shape, width=4)
    assert model.logits(model.initial(), torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 20), (3, 8, 8), (4, 16, 16)])
def test_without_gradients_a_network_says_the_same(shape: tuple[int, int, int]) -> None:
    """The first block then takes kernels of its own."""
    model = flat(shape, width=4).model.double()
    with torch.no_grad():  # norms of their own, and biases of convolutions, which the norms cancel
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    images = torch.randn(3, *shape, dtype=torch.float64)
    with_gradients = model(images)
    with torch.no_grad():
        torch.testing.assert_close(model(images), with_gradients.detach())


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [({"depth": 4}, "lower model.depth or set"), ({"name": "vgg11"}, "set data.image_size")],
)
def test_images_too_small_for_the_network(settings: dict, remedy: str) -> None:
    with pytest.raises(UserError, match=f"8x8 pixels vanish.*{remedy}"):
        flat((3, 8, 8), **settings)


def test_instance_norm_of_a_single_pixel_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"shrink to one pixel inside model.name resnet18.*set model.norm to batch"
    ):
        flat((1, 8, 8), name="resnet18")
    assert flat((1, 8, 8), name="resnet18", norm="batch").layout.size


def test_a_module_without_a_classifier_is_refused() -> None:
    with pytest.raises(TypeError, match="no module named `classifier`"):
        FlatModel(torch.nn.Linear(2, 2))
