"""One GPU at the size of the paper's headline: a full update and experts against the published forms, in every precision.

The published side is eager float32 with TF32 off throughout. T inner steps.
"""

from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, get_args

import torch
from torch.utils.flop_counter import FlopCounterMode

from ltdd_ray.bench.experts import PLAIN, Experts
from ltdd_ray.bench.gradients import cosines
from ltdd_ray.bench.matching import exact_update, published_update
from ltdd_ray.bench.precision import Precision, computing_in
from ltdd_ray.bench.problem import SEED, Problem
from ltdd_ray.bench.profile import profile
from ltdd_ray.bench.result import Result, to_json
from ltdd_ray.bench.sizes import Sizes
from ltdd_ray.bench.timing import alternate, peak_here, prepare, ratios, say, timed
from ltdd_ray.common.device import default_device
from ltdd_ray.common.seeding import derive_seed

HEADLINE = Sizes(images=500, largest_class=5000, test_per_class=1000, expert_epochs=1, matrix=8192)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def measure(repeats: int, sizes: Sizes = HEADLINE) -> dict[str, Any]:
    """Print as it goes and return ``{"machine", "results", "precisions", "profile"}``, the last two as :func:`_update` and
    :func:`~ltdd_ray.bench.profile.profile` give them."""
    prepare(sizes.threads)
    likeness = _likeness(sizes)
    problem = Problem(sizes)
    memory = {precision: _peaks(problem, sizes, precision) for precision in PRECISIONS}
    results, speed = _update(problem, sizes, repeats)
    results += [
        Result.of("peak_gb", [max(memory["float32"])], 4.0, "lower"),
        Result.of(
            "memory_T80_over_T5", [memory["float32"][1] / memory["float32"][0]], 1.15, "lower"
        ),
        *_experts(sizes, repeats),
    ]
    with computing_in("tf32"):
        short = replace(sizes, update_steps=sizes.memory_steps[:1] * 2)
        table = profile(partial(exact_update, problem, short))
    numbers = {p: {"cosines": likeness[p], "peak_gb": memory[p], **speed[p]} for p in PRECISIONS}
    return {**to_json(results), "precisions": numbers, "profile": table}


def _likeness(sizes: Sizes) -> dict[Precision, dict[str, dict[str, float]]]:
    """Per precision and phase, how far its exact gradients over T = ``steps`` point where those in float64 do."""
    single, double = Problem(sizes), Problem(sizes, torch.float64)
    found: dict[Precision, dict[str, dict[str, float]]] = {
        precision: {} for precision in PRECISIONS
    }
    for scope in ("backbone", "classifier"):
        reference = double.engine(scope, "exact", sizes.steps)
        for precision in PRECISIONS:
            with computing_in(precision):
                found[precision][scope] = cosines(
                    single.engine(scope, "exact", sizes.steps), reference
                )
            print(f"{precision}, {scope}: cosines to float64 {found[precision][scope]}")
    return found


def _peaks(problem: Problem, sizes: Sizes, precision: Precision) -> list[float]:
    """Peak memory of an exact representation phase in GB, for either of ``memory_steps``."""
    with computing_in(precision):
        peaks = [
            peak_here(partial(problem.engine, "backbone", "exact", steps)) / 1e9
            for steps in sizes.memory_steps
        ]
    print(
        f"{precision}: peak memory {', '.join(f'{p:.2f} GB at T = {t}' for p, t in zip(peaks, sizes.memory_steps))}"
    )
    return peaks


def _update(
    problem: Problem, sizes: Sizes, repeats: int
) -> tuple[list[Result], dict[Precision, dict[str, float]]]:
    """Ratios, and per precision the seconds of an update, its FLOP/s, a large product's FLOP/s and the share of it."""
    with FlopCounterMode(display=False) as counter:
        exact_update(problem, sizes)
    sides = {"published": partial(published_update, problem, sizes)}
    sides |= {precision: partial(_computed, precision, problem, sizes) for precision in PRECISIONS}
    times = alternate(timed(sides), repeats)
    say(
        f"full update, {sizes.update_steps[0]} + {sizes.update_steps[1]} steps of {sizes.images} images",
        times,
    )
    speed = {}
    for precision in PRECISIONS:
        taken, product = median(times[precision]), _product_rate(sizes.matrix, precision)
        rate = counter.get_total_flops() / taken
        speed[precision] = {
            "seconds": taken,
            "flops": rate,
            "product_flops": product,
            "share": rate / product,
        }
        print(
            f"{precision}: {rate / 1e12:.3g} TFLOP/s, {rate / product:.0%} of a large product's {product / 1e12:.3g}"
        )
    return [
        Result.of(
            f"update_{precision}_vs_published",
            ratios(times["published"], times[precision]),
            5.0,
            "higher",
        )
        for precision in PRECISIONS
    ], speed


def _computed(precision: Precision, problem: Problem, sizes: Sizes) -> None:
    with computing_in(precision):
        exact_update(problem, sizes)


def _product_rate(size: int, precision: Precision) -> float:
    """FLOP/s of a square product on random numbers, the best of several."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=default_device(), dtype=dtype) for _ in range(2))
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        (product,) = timed({"product": lambda: a @ b}).values()
        return 2 * size**3 / min(product() for _ in range(10))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def _experts(sizes: Sizes, repeats: int) -> list[Result]:
    """Images per second of plain SGD; the published loop reads, transforms and tests as its authors' does."""
    work = Experts(sizes)

    def engine(precision: Precision) -> None:
        with computing_in(precision):
            work.representation(PLAIN)

    sides = {
        "published": work.published_representation,
        **{p: partial(engine, p) for p in PRECISIONS},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(SEED, "benchmark-transforms"))
        times = alternate(timed(sides), repeats)
    images = len(work.labels) * sizes.expert_epochs
    say("experts", {name: [images / t for t in found] for name, found in times.items()}, "images/s")
    return [
        Result.of(f"expert_{p}_vs_published", ratios(times["published"], times[p]), 5.0, "higher")
        for p in PRECISIONS
    ]
