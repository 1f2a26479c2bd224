import torch

from ltdd_ray.evaluate.k_center import k_center
from ltdd_ray.evaluate.selection import select_by_class


def test_the_nearest_to_the_mean_then_always_the_farthest() -> None:
    points = torch.tensor([0.0, 1, 2, 10, 6])[:, None]
    # The mean is 3.8: 2 is nearest. The farthest from 2 is 10; then 6, four from both; then 0.
    assert k_center(points, 4) == [2, 3, 4, 0]
    assert k_center(points, 1) == [2]


def test_distance_is_that_of_the_plane() -> None:
    corners = torch.tensor([[0.0, 0], [3, 0], [0, 2], [3, 2], [1, 1]])
    # The last is nearest to the mean (1.4, 1). (3, 0) and (3, 2) are equally far from it.
    assert k_center(corners, 4) == [4, 1, 3, 0]


def test_equal_images_are_each_taken_once() -> None:
    assert k_center(torch.ones(3, 2), 3) == [0, 1, 2]
    assert k_center(torch.ones(3, 2), 9) == [0, 1, 2]


def test_every_class_is_covered_by_itself_and_repeats_where_it_must() -> None:
    features = torch.tensor([0.0, 7, 1, 9, 4])[:, None]
    labels = torch.tensor([0, 1, 0, 1, 0])
    # Class 0 has 0, 1, 4 with mean 5/3: 1 is nearest, 4 farthest from it. Class 1 has 7 and 9,
    # equally near to their mean: the first comes first.
    assert select_by_class(k_center, features, labels, (2, 2)) == [2, 4, 1, 3]
    assert select_by_class(k_center, features, labels, (3, 3)) == [2, 4, 0, 1, 3, 1]


def test_rounding_does_not_choose_between_two_images() -> None:
    """Both are equally far from their mean."""
    pairs = torch.randn(100, 2, 8, generator=torch.Generator().manual_seed(0))
    assert all(k_center(pair, 1) == [0] for pair in pairs)
