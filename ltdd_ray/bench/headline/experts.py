"""Experts on one GPU: several processes at once, since one of them launches kernels more slowly than the GPU runs them."""

import multiprocessing
import time
from collections import deque
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)

from ltdd_ray.bench.headline.clock import Clock, SliceOverError
from ltdd_ray.bench.precision import Precision, computing_in
from ltdd_ray.common.device import prepare_process
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.runs.progress import StageProgress

_work: tuple[RunConfig, PreparedData, Precision]  # of this process, set when it starts


def train_missing(
    config: RunConfig,
    data: PreparedData,
    processes: int,
    precision: Precision,
    clock: Clock,
    progress: StageProgress,
) -> None:
    """Train what the store lacks, ``processes`` experts at once; none is begun that would not be done in time.

    Raises ``SliceOverError`` once those begun are done and others are left.
    """
    waiting = deque(missing_experts(config, data.train))
    if not waiting:
        return
    running: dict[Future[float], int] = {}
    longest = 0.0
    done = config.experts.count - len(waiting)
    with _executor(min(processes, len(waiting)), config, data, precision) as pool:
        while waiting or running:
            while waiting and len(running) < processes and clock.allows(longest):
                expert = waiting.popleft()
                running[pool.submit(_train, expert)] = expert
            if not running:
                raise SliceOverError
            for finished in wait(running, return_when=FIRST_COMPLETED).done:
                longest = max(longest, finished.result())
                done += 1
                progress.update(
                    "experts",
                    done,
                    f"expert {running.pop(finished)} took {finished.result():.1f} s",
                )


def _executor(
    processes: int, config: RunConfig, data: PreparedData, precision: Precision
) -> Executor:
    if processes == 1:
        return ThreadPoolExecutor(1, initializer=_begin, initargs=(config, data, precision))
    context = multiprocessing.get_context("spawn")  # a forked process cannot use the GPU
    return ProcessPoolExecutor(
        processes, context, initializer=_begin, initargs=(config, data, precision)
    )


def _begin(config: RunConfig, data: PreparedData, precision: Precision) -> None:
    global _work
    _work = config, data, precision
    prepare_process(config.compute.threads)


def _train(expert: int) -> float:
    """Seconds it took."""
    began = time.monotonic()
    config, data, precision = _work
    with computing_in(precision):
        run_expert(config, data, expert, lambda report: None)
    return time.monotonic() - began
