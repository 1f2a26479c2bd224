"""Winograd's convolutions on a CPU: torch's time over theirs, and the rounding error of both.

    python benchmarks/convolution.py [--threads 2] [--rounds 7]

Times forward, input gradient, weight gradient, and a convolution with its tangent
(``convolution_pair``) of ``ltdd_ray/nn/kernels/convolution.py``, with Winograd's kernels and with
torch's in turn. Ratios are medians over rounds; sizes for which the package uses torch are marked.
Errors are those of the forward pass and the weight gradient, relative to float64, Euclidean norm.
"""

import argparse
from functools import partial
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor

from ltdd_ray.bench.timing import alternate, prepare, ratios, timed
from ltdd_ray.nn.kernels import winograd
from ltdd_ray.nn.kernels.convolution import convolution, convolution_pair, input_bar, weight_bar

SIZES = [
    (100, 128, 16),
    (100, 128, 8),
    (100, 64, 16),
    (100, 64, 8),
    (100, 32, 16),
    (100, 32, 8),
    (16, 128, 8),
    (8, 128, 8),
    (100, 256, 4),
    (1, 256, 32),
    (10, 128, 8),
    (10, 64, 8),
    (10, 32, 8),
    (5, 64, 8),
    (100, 128, 6),
    (100, 128, 5),
]


def measure(batch: int, channels: int, size: int, rounds: int) -> None:
    draw = torch.Generator().manual_seed(0)
    x, u_bar = (
        torch.randn(batch, channels, size, size, generator=draw).contiguous(
            memory_format=torch.channels_last
        )
        for _ in range(2)
    )
    w = torch.randn(channels, channels, 3, 3, generator=draw) / (9 * channels) ** 0.5
    works = {
        "forward": partial(convolution, x, w),
        "input": partial(input_bar, u_bar, w),
        "weight": partial(weight_bar, x, u_bar, w),
        "pair": partial(convolution_pair, x, u_bar, w, w),
    }
    shown = []
    for name, work in works.items():
        sides = timed(
            {"torch": partial(_with, False, work), "winograd": partial(_with, True, work)}
        )
        times = alternate(sides, rounds)
        ratio = median(ratios(times["torch"], times["winograd"]))
        shown.append(f"{name} {ratio:.2f} ({1e3 * median(times['winograd']):.2f} ms)")
    u, w_bar = _in_float64(convolution, x, w), _in_float64(weight_bar, x, u_bar, w)
    rounding = [
        f"{_error(_with(on, convolution, x, w), u):.0e} and "
        f"{_error(_with(on, weight_bar, x, u_bar, w), w_bar):.0e}"
        for on in (True, False)
    ]
    mark = "" if winograd.suits(x, channels) else "  left to torch"
    errors = f"error {rounding[0]}, torch {rounding[1]}"
    print(f"{batch} x {channels} x {size} x {size}: {', '.join(shown)}; {errors}{mark}")


def _with(on: bool, work, *arguments):
    with patch.object(winograd, "suits", lambda *_: on):
        return work(*arguments)


def _in_float64(work, *arguments: Tensor) -> Tensor:
    return work(*(argument.double() for argument in arguments))


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    prepare(arguments.threads)
    for size in SIZES:
        measure(*size, arguments.rounds)


if __name__ == "__main__":
    main()
