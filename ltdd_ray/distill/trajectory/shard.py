"""The part of every inner batch that this process computes, and the sum over processes.

Processes are the ranks of the default group of ``torch.distributed``.
"""

from dataclasses import dataclass

import torch.distributed
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Part ``rank`` of ``count``. A whole batch needs no process group."""

    rank: int
    count: int

    def rows(self, batch: int) -> slice:
        """The rows of this part; parts differ by at most one row."""
        return slice(self.rank * batch // self.count, (self.rank + 1) * batch // self.count)

    def weight(self, batch: int) -> float:
        """The weight of this part in a mean over the batch."""
        rows = self.rows(batch)
        return (rows.stop - rows.start) / batch

    def total(self, part: Tensor) -> Tensor:
        """The sum of ``part`` over processes, equal to the bit on all; overwrites ``part``."""
        if self.count > 1:
            torch.distributed.all_reduce(part)
        return part


WHOLE = Shard(0, 1)
