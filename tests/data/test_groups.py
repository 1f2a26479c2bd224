import pytest

from ltdd_ray.data.groups import class_groups, head_to_tail
from ltdd_ray.data.longtail import long_tail_counts


def test_ten_classes_are_cut_three_four_three():
    groups = class_groups([50, 5000, 83, 2997, 139, 1796, 232, 1077, 387, 645])
    assert groups == {"many": (1, 3, 5), "medium": (7, 9, 8, 6), "few": (4, 2, 0)}


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ([5, 5], {"medium": (0, 1)}),
        ([5] * 10, {"medium": tuple(range(10))}),
        ([5, 9, 5, 9], {"many": (1, 3), "few": (0, 2)}),
        ([9, 1, 1, 1], {"many": (0,), "few": (1, 2, 3)}),
        ([8, 8, 8, 5, 4, 3], {"many": (0, 1, 2), "medium": (3,), "few": (4, 5)}),
        ([9, 5, 5, 5, 5, 1], {"many": (0,), "medium": (1, 2, 3, 4), "few": (5,)}),
        ([9, 9, 9, 5, 5, 5, 1, 1, 1], {"many": (0, 1, 2), "medium": (3, 4, 5), "few": (6, 7, 8)}),
    ],
)
def test_classes_of_one_size_share_a_group(counts, groups):
    assert class_groups(counts) == groups


@pytest.mark.parametrize(
    ("largest", "classes", "factors"),
    [(5000, 10, (10, 20, 50, 100, 200)), (500, 100, (10, 20, 50)), (500, 200, (10, 20, 100))],
)
def test_published_cells_are_cut_by_rank_alone(largest, classes, factors):
    """CIFAR-10-LT, CIFAR-100-LT and Tiny-ImageNet-LT."""
    for factor in factors:
        groups = class_groups(long_tail_counts(largest, factor, classes))
        outer = classes // 3
        assert [len(own) for own in groups.values()] == [outer, classes - 2 * outer, outer]
        assert sum(groups.values(), ()) == tuple(range(classes))


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 100, 200])
def test_every_class_is_in_one_group(classes):
    groups = class_groups(range(classes))
    assert sorted(k for members in groups.values() for k in members) == list(range(classes))


def test_two_classes_have_no_medium():
    assert class_groups([1, 9]) == {"many": (1,), "few": (0,)}


def test_head_to_tail_breaks_ties_by_label_and_keeps_both_ends():
    assert head_to_tail([5, 9, 1, 9, 7]) == [1, 3, 4, 0, 2]
    assert head_to_tail([5, 9, 1, 9, 7], 3) == [1, 4, 2]
