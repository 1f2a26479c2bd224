import pytest

from ltdd_ray.common.spacing import evenly_spaced


@pytest.mark.parametrize(
    ("count", "most", "places"),
    [(3, 5, [0, 1, 2]), (5, 3, [0, 2, 4]), (100, 4, [0, 33, 66, 99]), (7, 1, [0]), (0, 4, [])],
)
def test_places_from_the_first_to_the_last(count: int, most: int, places: list[int]) -> None:
    assert evenly_spaced(count, most) == places
