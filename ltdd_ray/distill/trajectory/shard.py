"""Which part of every inner batch this process computes, and the sums that make the parts one batch.

B inner batch, n workers. Without Ray: workers are the ranks of the default group of ``torch.distributed``.
"""

from dataclasses import dataclass

import torch.distributed
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Part ``rank`` of ``count``; a whole batch needs no process group."""

    rank: int
    count: int

    def rows(self, batch: int) -> slice:
        """Its rows of a batch; parts differ by at most one row."""
        return slice(self.rank * batch // self.count, (self.rank + 1) * batch // self.count)

    def weight(self, batch: int) -> float:
        """Its share of a mean over the batch."""
        rows = self.rows(batch)
        return (rows.stop - rows.start) / batch

    def total(self, part: Tensor) -> Tensor:
        """The sum of every process's ``part``, bit for bit the same on all of them; ``part`` itself is overwritten."""
        if self.count > 1:
            torch.distributed.all_reduce(part)
        return part


WHOLE = Shard(0, 1)
