"""One GPU at the size of the paper's headline, against the published forms in the same run.

    python benchmarks/gpu_speed.py --json speed.json [--repeats 3] [--tiny]

Measures a full update (500 images, 80 + 60 steps) and experts in float32, TF32 and bfloat16; for
each precision the cosine of its gradient to that in float64, peak memory, and the FLOP/s beside
those of a large product. Ends with a profile. The published side is eager. Its convolutions are in
float32, to compare with ours in float32, and in TF32, to compare with the other two: TF32 is
torch's default on a GPU, which published code leaves.
``--tiny`` runs everything once at a size for a CPU. Needs no Ray. Not yet run on a GPU.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

import torch
from kernel_profile import profile
from rich.console import Console
from torch.nn.functional import cosine_similarity
from torch.utils.flop_counter import FlopCounterMode

from ltdd_ray.bench.experts import SGD_STAGE, Experts
from ltdd_ray.bench.matching import exact_update, published_update
from ltdd_ray.bench.problem import SEED, Problem
from ltdd_ray.bench.questions import disagreements, results_table
from ltdd_ray.bench.result import Result, to_json
from ltdd_ray.bench.sizes import TINY, Sizes
from ltdd_ray.bench.timing import alternate, prepare, ratios, say, timed
from ltdd_ray.common.device import default_device
from ltdd_ray.common.files import write_json
from ltdd_ray.common.hardware import peak_memory
from ltdd_ray.common.seeding import derive_seed
from ltdd_ray.distill.trajectory.matching import Match

Precision = Literal["float32", "tf32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# What the published side computes in where ours computes in the precision on the left.
PUBLISHED: dict[Precision, Precision] = {"float32": "float32", "tf32": "tf32", "bfloat16": "tf32"}
HEADLINE = Sizes(images=500, largest_class=5000, test_per_class=1000, expert_epochs=1)
PRODUCT_SIZE = 8192


def measure(repeats: int, sizes: Sizes, product_size: int) -> dict[str, Any]:
    """Print as it goes and return ``{"machine", "results", "precisions", "profile"}``."""
    prepare(sizes.threads)
    cosines = _cosines(sizes)
    problem = Problem(sizes)
    peaks = {precision: _peaks(problem, sizes, precision) for precision in PRECISIONS}
    results, speed = _update(problem, sizes, repeats, product_size)
    few, many = peaks["float32"]
    results += [
        Result.of("peak_gb", [max(few, many)], 4.0, "lower"),
        Result.of("memory_T80_over_T5", [many / few], 1.15, "lower"),
        *_experts(sizes, repeats),
    ]
    with computing_in("tf32"):
        short = replace(sizes, update_steps=sizes.memory_steps[:1] * 2)
        table = profile(partial(exact_update, problem, short))
    numbers = {p: {"cosines": cosines[p], "peak_gb": peaks[p], **speed[p]} for p in PRECISIONS}
    return {**to_json(results), "precisions": numbers, "profile": table}


def both_sides(
    published: Callable[[], object], ours: Callable[[], object]
) -> dict[str, Callable[[], object]]:
    """The works to time: ours in every precision, the published one in those of ``PUBLISHED``."""
    peers = {_peer(p): partial(_in, PUBLISHED[p], published) for p in PRECISIONS}
    return {**peers, **{p: partial(_in, p, ours) for p in PRECISIONS}}


def like_for_like(what: str, times: dict[str, list[float]]) -> list[Result]:
    """Per precision the ratio of the published time in ``PUBLISHED`` to ours."""
    return [
        Result.of(f"{what}_{p}_vs_published", ratios(times[_peer(p)], times[p]), 5.0, "higher")
        for p in PRECISIONS
    ]


def _peer(precision: Precision) -> str:
    return f"published {PUBLISHED[precision]}"


def _in(precision: Precision, work: Callable[[], object]) -> None:
    with computing_in(precision):
        work()


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Convolutions in ``precision`` for the length of the block.

    ``tf32`` has an effect on a GPU only. ``bfloat16`` also holds activations. Products of matrices
    outside the network, such as whitening, stay in float32.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, precision == "tf32"
    try:
        with torch.autocast(default_device().type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _cosines(sizes: Sizes) -> dict[Precision, dict[str, dict[str, float]]]:
    """Per precision and phase, cosines of the exact gradients over T = ``steps`` to float64's."""
    single, double = Problem(sizes), Problem(sizes, torch.float64)
    found: dict[Precision, dict[str, dict[str, float]]] = {p: {} for p in PRECISIONS}
    for scope in ("backbone", "classifier"):
        reference = double.engine(scope, "exact", sizes.steps)
        for precision in PRECISIONS:
            with computing_in(precision):
                cosines = _cosines_of(single.engine(scope, "exact", sizes.steps), reference)
            found[precision][scope] = cosines
            print(f"{precision}, {scope}: cosines to float64 {cosines}")
    return found


def _cosines_of(found: Match, reference: Match) -> dict[str, float]:
    pairs = {
        "images": (found.images_grad, reference.images_grad),
        "labels": (found.labels_grad, reference.labels_grad),
    }
    return {
        name: float(cosine_similarity(a.double().flatten(), b.double().flatten(), 0))
        for name, (a, b) in pairs.items()
    }


def _peaks(problem: Problem, sizes: Sizes, precision: Precision) -> list[float]:
    """Peak memory in GB of an exact representation phase, for each of ``memory_steps``."""
    with computing_in(precision):
        peaks = [
            _peak(partial(problem.engine, "backbone", "exact", steps)) / 1e9
            for steps in sizes.memory_steps
        ]
    shown = (f"{peak:.2f} GB at T = {steps}" for peak, steps in zip(peaks, sizes.memory_steps))
    print(f"{precision}: peak memory {', '.join(shown)}")
    return peaks


def _peak(work: Callable[[], object]) -> int:
    """Bytes: the peak of a GPU's allocator during ``work``; on a CPU this process's so far."""
    if default_device().type != "cuda":
        work()
        return peak_memory()
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()


def _update(
    problem: Problem, sizes: Sizes, repeats: int, product_size: int
) -> tuple[list[Result], dict[Precision, dict[str, float]]]:
    """Ratios; and per precision the seconds of an update on both sides, our FLOP/s, a large
    product's, and the ratio of these two.
    """
    with FlopCounterMode(display=False) as counter:
        exact_update(problem, sizes)
    sides = both_sides(
        partial(published_update, problem, sizes), partial(exact_update, problem, sizes)
    )
    times = alternate(timed(sides), repeats)
    representation, classifier = sizes.update_steps
    say(f"full update, {representation} + {classifier} steps of {sizes.images} images", times)
    speed = {}
    for precision in PRECISIONS:
        seconds, product = median(times[precision]), _product_rate(product_size, precision)
        rate = counter.get_total_flops() / seconds
        speed[precision] = {
            "seconds": seconds,
            "published_seconds": median(times[_peer(precision)]),
            "flops": rate,
            "product_flops": product,
            "share": rate / product,
        }
        print(
            f"{precision}: {rate / 1e12:.3g} TFLOP/s, "
            f"{rate / product:.0%} of a large product's {product / 1e12:.3g}"
        )
    return like_for_like("update", times), speed


def _product_rate(size: int, precision: Precision) -> float:
    """FLOP/s of a square product of random matrices, the best of ten."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=default_device(), dtype=dtype) for _ in range(2))
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        (product,) = timed({"product": lambda: a @ b}).values()
        return 2 * size**3 / min(product() for _ in range(10))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def _experts(sizes: Sizes, repeats: int) -> list[Result]:
    """Images per second of a representation stage with SGD."""
    work = Experts(sizes)

    sides = both_sides(work.published_representation, partial(work.representation, SGD_STAGE))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(SEED, "benchmark-transforms"))
        times = alternate(timed(sides), repeats)
    images = len(work.labels) * sizes.expert_epochs
    say("experts", {name: [images / t for t in found] for name, found in times.items()}, "images/s")
    return like_for_like("expert", times)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="file for the results")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, side by side")
    parser.add_argument("--tiny", action="store_true", help="a trial run at a size for a CPU")
    options = parser.parse_args(arguments)
    sizes, product_size = (TINY, 64) if options.tiny else (HEADLINE, PRODUCT_SIZE)
    found = measure(options.repeats, sizes, product_size)
    write_json(options.json, found)
    results, console = [Result(**result) for result in found["results"]], Console()
    console.print(results_table("gpu", results))
    console.print("\n".join(disagreements(results)), soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
