"""Where a piece of work spends its time: its kernels, their launches, and the time without any."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as recording

from ltdd_ray.bench.timing import seconds
from ltdd_ray.common.device import default_device

SHOWN = 20


def profile(work: Callable[[], object]) -> dict[str, Any]:
    """Print and return the kernels that take longest, with their launches and milliseconds.

    ``idle`` is the share of an unprofiled run's wall-clock time in which no kernel runs. On a CPU
    torch's operations stand in for kernels.
    """
    on_gpu = default_device().type == "cuda"
    work()
    wall_ms = 1e3 * seconds(work)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with recording(activities=activities, acc_events=True) as recorded:
        work()
        if on_gpu:
            torch.cuda.synchronize()
    kind = "CUDA" if on_gpu else "CPU"
    kernels = [
        {
            "name": event.key,
            "launches": event.count,
            "ms": (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e3,
        }
        for event in recorded.key_averages()
        if event.device_type.name == kind
    ]
    kernels.sort(key=lambda kernel: -kernel["ms"])
    busy_ms = sum(kernel["ms"] for kernel in kernels)
    launches = sum(kernel["launches"] for kernel in kernels)
    idle = max(0.0, 1 - busy_ms / wall_ms)
    print(
        f"profile: {wall_ms:.1f} ms, {launches} launches, kernels {busy_ms:.1f} ms, idle {idle:.0%}"
    )
    for kernel in kernels[:SHOWN]:
        print(f"{kernel['ms']:10.2f} ms {kernel['launches']:7d} x {kernel['name'][:90]}")
    return {
        "wall_ms": wall_ms,
        "launches": launches,
        "busy_ms": busy_ms,
        "idle": idle,
        "kernels": kernels[:SHOWN],
    }
