"""The published draw of start epochs: from [min, bound), which is min to bound - 1 here."""

import pytest

from ltdd_ray.config import StartEpochs
from ltdd_ray.distill.trajectory.schedule import draw_segment, last_start_epoch


@pytest.mark.parametrize("update", [0, 1, 99, 100, 1999, 2000, 9999])
def test_a_bound_that_grows_is_the_published_one_less_one(update: int) -> None:
    """The published bound: current + int((max - current) * update / end), at most max."""
    bound = min(10 + int((20 - 10) * update / 2000), 20)
    epochs = StartEpochs(initial_max=9, max=19, growth=2000)
    assert last_start_epoch(epochs, update) == bound - 1


def test_without_growth_the_full_range_is_drawn_from_at_once() -> None:
    epochs = StartEpochs(min=2, max=5)
    drawn = {draw_segment(epochs, 3, 0, "representation", 0, n).start_epoch for n in range(200)}
    assert drawn == {2, 3, 4, 5}
