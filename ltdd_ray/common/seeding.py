"""Random generators that depend on (run seed, purpose, index) alone.

Every random draw of a run comes from a generator made here. So a result depends neither on what ran
before it in the same process nor on the worker that ran it, and a resumed run draws the same
numbers as an undisturbed one.
"""

import hashlib

import torch


def derive_seed(run_seed: int, purpose: str, *index: int) -> int:
    """A 63-bit seed, a function of the arguments alone. Purposes and indices are independent."""
    text = ":".join([str(run_seed), purpose, *map(str, index)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(run_seed: int, purpose: str, *index: int) -> torch.Generator:
    """A CPU generator seeded by :func:`derive_seed`.

    Draw on the CPU and move the numbers, so that they are the same on every device.
    """
    return torch.Generator().manual_seed(derive_seed(run_seed, purpose, *index))
