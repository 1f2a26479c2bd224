"""Hardware, package versions and memory of this process, as recorded with every run."""

import os
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import torch

PACKAGES = ("ltdd-ray", "torch", "ray", "numpy", "pyarrow")


class Hardware(TypedDict):
    """CPU model, cores this process may use, memory in bytes, names of the GPUs."""

    cpu: str
    cores: int
    memory: int
    gpus: list[str]


def describe_hardware() -> Hardware:
    """The hardware that this process runs on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def describe_versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux a child inherits ru_maxrss from its parent, so it can exceed the child's memory.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes


def gpu_memory() -> tuple[int, int]:
    """Peak memory that this process held on its GPU, context included, and the GPU's memory; bytes.

    Memory of other programs on that GPU is counted too.
    """
    free, total = torch.cuda.mem_get_info()
    return total - free + torch.cuda.max_memory_reserved() - torch.cuda.memory_reserved(), total


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
