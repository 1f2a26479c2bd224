import pytest
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.nn.augment import Augmentation

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
IMAGES = torch.rand(6, 3, 16, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def apply(strategy: str, images: torch.Tensor = IMAGES, seed: int = 0) -> torch.Tensor:
    return Augmentation(strategy)(images, generator(seed, "test"))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_changes_images_keeps_their_shape_and_repeats_by_seed(operation: str) -> None:
    out = apply(operation)
    assert out.shape == IMAGES.shape and out.dtype == IMAGES.dtype
    assert not torch.equal(out, IMAGES)
    assert torch.equal(out, apply(operation))
    assert not torch.equal(out, apply(operation, seed=1))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradient_in_the_images(operation: str) -> None:
    images = IMAGES[:2, :, :5, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apply(operation, x), images)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_strength_differs_between_images(operation: str) -> None:
    same = IMAGES[:1].expand(6, -1, -1, -1)
    out = apply(operation, same)
    assert not all(torch.equal(out[0], other) for other in out[1:])


def test_empty_strategy_is_the_identity() -> None:
    assert apply("") is IMAGES


def test_crop_shifts_by_whole_pixels_up_to_an_eighth() -> None:
    image = torch.zeros(40, 1, 16, 16)
    image[:, :, 8, 8] = 1
    rows, columns = apply("crop", image)[:, 0].nonzero()[:, 1:].T
    assert set((rows - 8).tolist()) == set((columns - 8).tolist()) == {-2, -1, 0, 1, 2}


def test_cutout_removes_at_most_a_quarter() -> None:
    kept = apply("cutout", torch.ones(50, 1, 16, 16)).mean((1, 2, 3))
    assert float(kept.min()) == 0.75
    assert float(kept.max()) > 0.8


def test_flip_mirrors_about_half_of_the_images() -> None:
    ramp = torch.arange(4.0).expand(200, 1, 1, 4)
    flipped = int((apply("flip", ramp)[:, 0, 0, 0] == 3).sum())
    assert 70 < flipped < 130


def test_one_operation_is_drawn_per_batch() -> None:
    strategy = Augmentation("flip_cutout")
    seen = set()
    for seed in range(20):
        out = strategy(
            torch.arange(16.0).view(1, 1, 4, 4).expand(30, -1, -1, -1) + 1, generator(seed, "draw")
        )
        seen.add("cutout" if bool((out == 0).any()) else "flip")
    assert seen == {"cutout", "flip"}


def test_grey_images() -> None:
    assert apply("_".join(OPERATIONS), IMAGES[:, :1]).shape == (6, 1, 16, 12)


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(
        UserError, match=r"no operation `blur`; choose among color_crop_cutout_flip_scale_rotate"
    ):
        Augmentation("flip_blur")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_siamese_augments_every_image_of_every_batch_alike(operation: str) -> None:
    def siamese(images: torch.Tensor) -> torch.Tensor:
        return Augmentation(operation)(images, generator(0, "test"), siamese=True)

    whole = siamese(IMAGES)
    assert not torch.equal(whole, IMAGES)
    torch.testing.assert_close(siamese(IMAGES[2:4]), whole[2:4])
    same = siamese(IMAGES[:1].expand(6, -1, -1, -1))
    assert all(torch.equal(same[0], other) for other in same[1:])
