"""Device, threads and memory allocator of a process that computes."""

import ctypes
import platform
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Parameter numbers of mallopt in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def default_device() -> torch.device:
    """The first GPU this process sees, else the CPU.

    Ray lets each actor and worker see only its own GPUs.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(drawn: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """``drawn``, a small CPU tensor, on ``device``. The copy does not wait for the GPU."""
    return drawn.to(device, dtype, non_blocking=True)


def without_autocast(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """``function`` with torch's autocast off, so that it computes in the dtypes of its inputs."""
    return torch.autocast("cuda", enabled=False)(torch.autocast("cpu", enabled=False)(function))


def prepare_process(threads: int) -> None:
    """Set the number of torch threads, and keep freed memory for the next tensor.

    The last bits of a sum depend on the number of threads, so a run fixes it. By default glibc
    returns the pages of every large tensor to the system and faults them in again for the next one.
    That takes a third of a training step on a CPU (`benchmarks/allocator.py`).
    """
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
