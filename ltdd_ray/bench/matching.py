"""The matching engine against the published forms: time, memory and gradient."""

from functools import partial

from torch import Tensor

from ltdd_ray.bench.floor import Floor
from ltdd_ray.bench.gradients import check_gradients
from ltdd_ray.bench.problem import Problem
from ltdd_ray.bench.result import Result
from ltdd_ray.bench.sizes import FULL, Sizes
from ltdd_ray.bench.timing import (
    alternate,
    peak_in_fresh_process,
    prepare,
    ratios,
    say,
    seconds,
    timed,
)

LAMBDA_CLS = 0.5


def measure(repeats: int, sizes: Sizes = FULL) -> list[Result]:
    """Print gradient errors, times and peak memory, and give the ratios.

    Raises ``ArithmeticError`` before anything is timed if the classifier phases differ in gradient.
    """
    prepare(sizes.threads)
    check_gradients(sizes)
    problem = Problem(sizes)
    return [
        *_representation(problem, sizes, repeats),
        _classifier(problem, sizes, repeats),
        _update(problem, sizes, min(repeats, sizes.slow_repeats)),
        _memory(sizes, min(repeats, sizes.slow_repeats)),
    ]


def _representation(problem: Problem, sizes: Sizes, repeats: int) -> list[Result]:
    sides = timed(
        {
            "unrolled": partial(problem.unrolled, sizes.steps),
            "exact": partial(problem.engine, "backbone", "exact", sizes.steps),
            "published": partial(problem.two_pass, sizes.steps),
            "first order": partial(problem.engine, "backbone", "first_order", sizes.steps),
        }
    )
    times = alternate(sides | {"floor": Floor(sizes).seconds}, repeats)
    say(f"representation phase, T = {sizes.steps}", times)
    from_unrolled, from_published, over_floor = (
        ratios(times[above], times[below])
        for above, below in (
            ("unrolled", "exact"),
            ("published", "first order"),
            ("exact", "floor"),
        )
    )
    return [
        Result.of("representation_exact_vs_unrolled", from_unrolled, 2.5, "higher"),
        Result.of("representation_first_order_vs_published", from_published, 2.0, "higher"),
        Result.of("representation_over_floor", over_floor, 1.5, "lower"),
    ]


def _classifier(problem: Problem, sizes: Sizes, repeats: int) -> Result:
    """The engine in first-order mode, which computes the published form's gradient."""
    sides = timed(
        {
            "published": partial(problem.classifier_two_pass, sizes.steps),
            "first order": partial(problem.engine, "classifier", "first_order", sizes.steps),
            "exact": partial(problem.engine, "classifier", "exact", sizes.steps),
        }
    )
    times = alternate(sides, repeats)
    say(f"classifier phase, T = {sizes.steps}", times)
    return Result.of(
        "classifier_vs_published", ratios(times["published"], times["first order"]), 5.0, "higher"
    )


def _update(problem: Problem, sizes: Sizes, repeats: int) -> Result:
    """Both phases at their full length, not scaled up. Earlier measures have warmed them up."""
    sides = {"published": published_update, "exact": exact_update}
    times = alternate(
        {name: partial(seconds, partial(side, problem, sizes)) for name, side in sides.items()},
        repeats,
    )
    say(f"full update, {sizes.update_steps[0]} + {sizes.update_steps[1]} steps", times)
    return Result.of(
        "update_vs_published", ratios(times["published"], times["exact"]), 2.0, "higher"
    )


def published_update(problem: Problem, sizes: Sizes) -> Tensor:
    """The images' gradient (M, K, H, W) of both phases in two passes each."""
    representation, classifier = sizes.update_steps
    return (
        problem.two_pass(representation).images
        + LAMBDA_CLS * problem.classifier_two_pass(classifier).images
    )


def exact_update(problem: Problem, sizes: Sizes) -> Tensor:
    """The images' gradient (M, K, H, W) of both phases by the engine in exact mode."""
    representation, classifier = sizes.update_steps
    first, second = (
        problem.engine("backbone", "exact", representation),
        problem.engine("classifier", "exact", classifier),
    )
    return first.images_grad + LAMBDA_CLS * second.images_grad


def _memory(sizes: Sizes, repeats: int) -> Result:
    def peak(steps: int) -> float:
        return peak_in_fresh_process(run_exact, sizes, steps, threads=sizes.threads) / 1e6

    few, many = sizes.memory_steps
    peaks = alternate(
        {f"T = {few}": partial(peak, few), f"T = {many}": partial(peak, many)}, repeats
    )
    say("peak memory, exact", peaks, "MB")
    return Result.of(
        "memory_T80_over_T5", ratios(peaks[f"T = {many}"], peaks[f"T = {few}"]), 1.15, "lower"
    )


def run_exact(sizes: Sizes, steps: int) -> None:
    """One exact representation phase, for a process whose memory is measured."""
    Problem(sizes).engine("backbone", "exact", steps)
