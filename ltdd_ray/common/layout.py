"""A model's parameters as one vector theta in R^P = (theta_b backbone | theta_c classifier).

P is ``layout.size``. The layout is plain data without torch, so the trajectory store can record and
check it.
"""

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Parameter:
    """One tensor: its ``state_dict`` name, its shape and its first position in the vector."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class ParameterLayout:
    """All parameters in vector order. The first ``backbone_size`` elements are the backbone."""

    parameters: tuple[Parameter, ...]
    backbone_size: int

    @property
    def size(self) -> int:
        return sum(p.size for p in self.parameters)

    @property
    def classifier_size(self) -> int:
        return self.size - self.backbone_size

    def to_json(self) -> dict:
        entries = [
            {"name": p.name, "shape": list(p.shape), "offset": p.offset} for p in self.parameters
        ]
        return {"backbone_size": self.backbone_size, "parameters": entries}

    @classmethod
    def from_json(cls, data: dict) -> "ParameterLayout":
        entries = (Parameter(p["name"], tuple(p["shape"]), p["offset"]) for p in data["parameters"])
        return cls(tuple(entries), data["backbone_size"])
