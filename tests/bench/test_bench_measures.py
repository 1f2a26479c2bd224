"""Every measure once at a tiny size: names, targets, and ratios that are finite and positive."""

from collections.abc import Callable

import pytest

from ltdd_ray.bench import evaluate, experts, matching
from ltdd_ray.bench.result import Result
from ltdd_ray.bench.sizes import TINY, Sizes
from ltdd_ray.bench.timing import alternate, peak_in_fresh_process, ratios

NAMES = {
    matching.measure: {
        "representation_exact_vs_unrolled": (2.5, "higher"),
        "representation_first_order_vs_published": (2.0, "higher"),
        "representation_over_floor": (1.5, "lower"),
        "classifier_vs_published": (5.0, "higher"),
        "update_vs_published": (2.0, "higher"),
        "memory_T80_over_T5": (1.15, "lower"),
    },
    experts.measure: {
        "expert_images_vs_published": (1.7, "higher"),
        "classifier_stage_share": (0.1, "lower"),
    },
    evaluate.measure: {"evaluate_vs_published": (1.5, "higher")},
}


@pytest.mark.parametrize("measure", NAMES, ids=["matching", "experts", "evaluate"])
def test_a_measure_gives_its_ratios(measure: Callable[[int, Sizes], list[Result]]) -> None:
    results = measure(2, TINY)
    assert {r.name: (r.target, r.better) for r in results} == NAMES[measure]
    assert all(0 < r.low <= r.ratio <= r.high < float("inf") for r in results)


def test_rounds_alternate_and_ratios_are_per_round() -> None:
    order: list[str] = []
    clock = iter([4.0, 2.0, 9.0, 3.0])

    def side(name: str) -> Callable[[], float]:
        return lambda: order.append(name) or next(clock)

    measured = alternate({"a": side("a"), "b": side("b")}, 2)
    assert order == ["a", "b", "a", "b"]
    assert ratios(measured["a"], measured["b"]) == [2.0, 3.0]


def allocate(megabytes: int) -> None:
    bytearray(megabytes * 10**6)


def test_peak_memory_is_the_childs_own() -> None:
    """The parent's own peak must not be part of it."""
    allocate(1500)
    small, large = (peak_in_fresh_process(allocate, megabytes, threads=1) for megabytes in (1, 300))
    assert small < 1200e6
    assert large - small == pytest.approx(299e6, rel=0.1)
