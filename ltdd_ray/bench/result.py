"""One measured ratio with its target, and the JSON that ``ltdd-ray bench --json`` writes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

import torch

from ltdd_ray.common.hardware import describe_hardware

MOST_SPREAD = 0.25  # of the median; the results of docs/performance.md are within it


@dataclass(frozen=True)
class Result:
    """A median over repeats, their range from ``low`` to ``high``, and the target.

    ``better`` is "higher" where the ratio has to reach the target, "lower" where it must not exceed
    it.
    """

    name: str
    ratio: float
    low: float
    high: float
    target: float
    better: Literal["higher", "lower"]

    @classmethod
    def of(
        cls, name: str, ratios: Sequence[float], target: float, better: Literal["higher", "lower"]
    ) -> "Result":
        """From the ratio of every repeat."""
        return cls(name, median(ratios), min(ratios), max(ratios), target, better)

    @property
    def met(self) -> bool:
        return self.ratio >= self.target if self.better == "higher" else self.ratio <= self.target

    @property
    def rounds_agree(self) -> bool:
        """Whether the range is at most ``MOST_SPREAD`` of the median wide."""
        return self.high - self.low <= MOST_SPREAD * abs(self.ratio)


def to_json(results: Sequence[Result]) -> dict:
    """``{"machine": ..., "results": [...]}``, the results in the order given."""
    machine = {
        **describe_hardware(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    return {"machine": machine, "results": [asdict(result) for result in results]}
