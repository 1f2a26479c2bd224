"""The network."""

from typing import Literal

from pydantic import Field

from ltdd_ray.config.section import Section


class ModelConfig(Section):
    name: Literal["convnet", "alexnet", "vgg11", "resnet18"] = "convnet"
    width: int = Field(default=128, ge=1, description="Channels of every ConvNet block.")
    depth: int = Field(
        default=3, ge=1, le=6, description="Blocks of the ConvNet; each halves the image."
    )
    norm: Literal["instance", "batch", "none"] = "instance"

    @property
    def label(self) -> str:
        """What tables and files call it, equal only for equal networks: convnet3-w128-instance, resnet18-batch, alexnet."""
        if self.name == "alexnet":  # it has neither norm layers nor a width to choose
            return self.name
        return (
            f"convnet{self.depth}-w{self.width}-{self.norm}"
            if self.name == "convnet"
            else f"{self.name}-{self.norm}"
        )
