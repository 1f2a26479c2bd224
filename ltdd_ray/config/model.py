"""The network."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ltdd_ray.common.registry import Registry
from ltdd_ray.config.section import NamingSection

NETWORKS = Registry[Callable[..., Any]]("network", ("convnet", "alexnet", "vgg11", "resnet18"))


class ModelConfig(NamingSection):
    """The network of experts, students and evaluation."""

    registry: ClassVar[Registry[Any]] = NETWORKS
    naming_key: ClassVar[str] = "name"

    name: str = Field(
        default="convnet",
        description="Architecture: convnet, alexnet, vgg11, resnet18 or a registered network. "
        "Distillation is tuned and optimised for convnet; use the others to test how a set "
        "transfers (`evaluate.models`).",
    )
    width: int = Field(
        default=128,
        ge=1,
        description="Channels of every ConvNet block. Published: 128; 32 suits a CPU. The other "
        "built-in architectures ignore it.",
    )
    depth: int = Field(
        default=3,
        ge=1,
        le=6,
        description="Blocks of the ConvNet; each halves the image. Published: 3 for 32 pixels, 4 "
        "for 64. The other built-in architectures ignore it.",
    )
    norm: Literal["instance", "batch", "none"] = Field(
        default="instance",
        description="Normalisation layer after each convolution. `batch` mixes the images of a "
        "batch, so it excludes `distill.micro_batch` and `compute.parallel: batch`.",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return NETWORKS.check(name)

    @property
    def label(self) -> str:
        """Name in tables and files, such as convnet3-w128-instance. Equal networks share it."""
        if self.name == "alexnet":  # it has neither norm layers nor a width to choose
            return self.name
        if self.name in ("vgg11", "resnet18"):
            return f"{self.name}-{self.norm}"
        return f"{self.name}{self.depth}-w{self.width}-{self.norm}"
