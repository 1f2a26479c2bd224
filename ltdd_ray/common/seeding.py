"""Randomness from (run seed, purpose, index) alone.

Every random draw of a run comes from a generator made here, so a result depends neither on what ran before it in the same
process nor on which worker ran it, and a resumed run draws what the undisturbed one would have drawn.
"""

import hashlib

import torch


def derive_seed(run_seed: int, purpose: str, *index: int) -> int:
    """A 63-bit seed that is a function of its arguments only, independent between purposes and indices."""
    text = ":".join([str(run_seed), purpose, *map(str, index)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(run_seed: int, purpose: str, *index: int) -> torch.Generator:
    """A CPU generator seeded by :func:`derive_seed`. Draw on the CPU and move, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(derive_seed(run_seed, purpose, *index))
