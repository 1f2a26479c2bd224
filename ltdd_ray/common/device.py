"""The process a piece of work runs in: where its tensors live, its threads, its memory allocator."""

import ctypes
import platform
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

_P = ParamSpec("_P")
_T = TypeVar("_T")

# mallopt's parameter numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def default_device() -> torch.device:
    """The GPU this process may use, else the CPU. Ray shows each actor and worker only its own GPUs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(drawn: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """``drawn``, a small tensor of the CPU, on ``device``. Unlike ``to`` alone this lets a GPU's queue of work run on."""
    return drawn.to(device, dtype, non_blocking=True)


def without_autocast(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """``function`` in the dtypes it is written in, whatever torch's autocast is set to around it."""
    return torch.autocast("cuda", enabled=False)(torch.autocast("cpu", enabled=False)(function))


def prepare_process(threads: int) -> None:
    """Make this process one that computes: ``threads`` torch threads, and freed memory kept for the next tensor.

    The last bits of a sum depend on the number of threads, so a run fixes it. By default glibc gives the pages of every large
    tensor back to the system and faults them in again for the next one, which costs a third of a training step on a CPU
    (`benchmarks/allocator.py`).
    """
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
