"""The network."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ltdd_ray.common.registry import Registry
from ltdd_ray.config.section import NamingSection

NETWORKS = Registry[Callable[..., Any]]("network", ("convnet", "alexnet", "vgg11", "resnet18"))


class ModelConfig(NamingSection):
    registry: ClassVar[Registry[Any]] = NETWORKS
    naming_key: ClassVar[str] = "name"

    name: str = Field(
        default="convnet",
        description="Architecture: convnet, alexnet, vgg11, resnet18 or a registered network.",
    )
    width: int = Field(default=128, ge=1, description="Channels of every ConvNet block.")
    depth: int = Field(
        default=3, ge=1, le=6, description="Blocks of the ConvNet; each halves the image."
    )
    norm: Literal["instance", "batch", "none"] = "instance"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return NETWORKS.check(name)

    @property
    def label(self) -> str:
        """What tables and files call it, equal only for equal networks: convnet3-w128-instance, resnet18-batch, alexnet."""
        if self.name == "alexnet":  # it has neither norm layers nor a width to choose
            return self.name
        if self.name in ("vgg11", "resnet18"):
            return f"{self.name}-{self.norm}"
        return f"{self.name}{self.depth}-w{self.width}-{self.norm}"
