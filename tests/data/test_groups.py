import pytest

from ltdd_ray.data.groups import class_groups


def test_ten_classes_are_cut_three_four_three():
    groups = class_groups([50, 5000, 83, 2997, 139, 1796, 232, 1077, 387, 645])
    assert groups == {"many": (1, 3, 5), "medium": (7, 9, 8, 6), "few": (4, 2, 0)}


def test_ties_are_broken_by_label():
    assert class_groups([5, 5, 5]) == {"many": (0,), "medium": (1,), "few": (2,)}


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 100, 200])
def test_every_class_is_in_one_group(classes):
    groups = class_groups(range(classes))
    assert sorted(k for members in groups.values() for k in members) == list(range(classes))


def test_two_classes_have_no_medium():
    assert class_groups([1, 9]) == {"many": (1,), "few": (0,)}
