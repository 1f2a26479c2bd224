"""The process a piece of work runs in: where its tensors live, its threads, its memory allocator."""

import ctypes
import platform

import torch

# mallopt's parameter numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def default_device() -> torch.device:
    """The GPU this process may use, else the CPU. Ray shows each actor and worker only its own GPUs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
