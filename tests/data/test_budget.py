import pytest
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DistillConfig
from ltdd_ray.data.budget import class_budget, describe_shortage, repeated, share_out

COUNTS = [100, 50, 10, 1]


def budget(**settings) -> tuple[int, ...]:
    return class_budget(DistillConfig.model_validate(settings), COUNTS)


def test_images_per_class_is_the_ordinary_way() -> None:
    assert budget(ipc=7) == (7, 7, 7, 7)


def test_a_total_is_shared_out() -> None:
    assert budget(budget={"images": 12}) == (3, 3, 3, 3)
    assert budget(budget={"images": 14}) == (4, 4, 3, 3)
    # 20 * (100, 50, 10, 1) / 161 = 12.4, 6.2, 1.2, 0.1: the last class gets one image.
    # The other 19 are divided as 19 * (100, 50, 10) / 160 = 11.9, 5.9, 1.2.
    assert budget(budget={"images": 20, "share": "count"}) == (12, 6, 1, 1)
    assert budget(budget={"images": 4, "share": "count"}) == (1, 1, 1, 1)


def test_a_number_for_every_class() -> None:
    assert budget(budget={"per_class": [1, 2, 3, 4]}) == (1, 2, 3, 4)


def test_too_small_classes_are_reported() -> None:
    assert describe_shortage((7, 7, 7, 7), COUNTS).startswith(
        "1 of 4 classes have fewer images than synthetic ones, the smallest 1:"
    )
    assert describe_shortage((100, 50, 10, 1), COUNTS) == ""


@pytest.mark.parametrize(
    "weights", [[1] * 7, [500, 300, 20, 20, 3, 1, 1], [10**6, 1, 1, 1, 1, 1, 1]]
)
def test_shares_add_up_and_never_vanish(weights: list[int]) -> None:
    for images in (7, 8, 23, 100, 4321):
        given = share_out(images, weights)
        assert sum(given) == images and min(given) >= 1
        assert list(given) == sorted(given, reverse=True), "a larger class never gets less"
        single = [w for w, g in zip(weights, given) if g > 1]
        exact = [(images - len(weights) + len(single)) * w / sum(single) for w in single]
        assert all(abs(g - e) < 1 for g, e in zip(given, exact))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"images": 3},
            r"3 is less than one image for each of the 4 classes; raise it to at least 4",
        ),
        ({"per_class": [1, 2]}, r"has 2 numbers, but the data has 4 classes"),
    ],
)
def test_a_budget_that_does_not_fit_the_classes(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        budget(budget=settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"`distill.ipc` is missing"),
        ({"ipc": 3, "budget": {"images": 9}}, r"set distill.ipc to null"),
        ({"budget": {}}, r"either images or per_class"),
        ({"budget": {"images": 9, "per_class": [9]}}, r"either images or per_class"),
        ({"budget": {"per_class": [3, 0]}}, r"greater than or equal to 1"),
    ],
)
def test_impossible_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillConfig.model_validate(settings)


def test_a_class_that_is_too_small_starts_again() -> None:
    order = torch.tensor([7, 2, 5])
    assert repeated(order, 2).tolist() == [7, 2]
    assert repeated(order, 7).tolist() == [7, 2, 5, 7, 2, 5, 7]
