"""Timing side by side, and peak memory in processes of their own."""

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median

import torch

from ltdd_ray.common.device import default_device, prepare_process
from ltdd_ray.common.hardware import peak_memory


def prepare(threads: int) -> None:
    """Give every side the same process: its threads, its allocator, and float32 products that are float32 on a GPU too."""
    prepare_process(threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call, its work on a GPU included."""
    _finish()
    began = time.perf_counter()
    work()
    _finish()
    return time.perf_counter() - began


def timed(works: Mapping[str, Callable[[], object]]) -> dict[str, Callable[[], float]]:
    """Sides for :func:`alternate`, each warmed up by one call: what a first call compiles or allocates is not measured."""
    for work in works.values():
        work()
    return {name: partial(seconds, work) for name, work in works.items()}


def alternate(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Rounds A, B, A, B, ... of sides that return what they measure; a slow moment of the machine hits all of its round."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            measured[name].append(side())
    return measured


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """One ratio per round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def say(what: str, measured: Mapping[str, Sequence[float]], unit: str = "s") -> None:
    """Print the median of every side."""
    print(
        f"{what}: "
        + ", ".join(f"{name} {median(values):.3g} {unit}" for name, values in measured.items())
    )


def peak_in_fresh_process(work: Callable[..., object], *arguments: object, threads: int) -> int:
    """Peak memory in bytes of a new process that does nothing but ``work(*arguments)``: resident size, or a GPU's allocator.

    ``work`` must be importable by its name.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, work, arguments, threads).result()


def _peak(work: Callable[..., object], arguments: tuple[object, ...], threads: int) -> int:
    prepare(threads)
    work(*arguments)
    return torch.cuda.max_memory_allocated() if default_device().type == "cuda" else peak_memory()


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
