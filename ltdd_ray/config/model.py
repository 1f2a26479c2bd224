"""The network."""

from typing import Literal

from pydantic import Field

from ltdd_ray.config.section import Section


class ModelConfig(Section):
    """The network of experts, students and evaluation."""

    name: Literal["convnet", "alexnet", "vgg11", "resnet18"] = Field(
        default="convnet",
        description="Architecture. Distillation is tuned and optimised for `convnet`; use the "
        "others to test how a set transfers (`evaluate.models`).",
    )
    width: int = Field(
        default=128,
        ge=1,
        description="Channels of every ConvNet block. Published: 128; 32 suits a CPU. The other "
        "architectures ignore it.",
    )
    depth: int = Field(
        default=3,
        ge=1,
        le=6,
        description="Blocks of the ConvNet; each halves the image. Published: 3 for 32 pixels, 4 "
        "for 64. The other architectures ignore it.",
    )
    norm: Literal["instance", "batch", "none"] = Field(
        default="instance",
        description="Normalisation layer after each convolution. `batch` mixes the images of a "
        "batch, so it excludes `distill.micro_batch` and `compute.parallel: batch`.",
    )

    @property
    def label(self) -> str:
        """Name in tables and files, such as convnet3-w128-instance. Equal networks share it."""
        if self.name == "alexnet":  # it has neither norm layers nor a width to choose
            return self.name
        return (
            f"convnet{self.depth}-w{self.width}-{self.norm}"
            if self.name == "convnet"
            else f"{self.name}-{self.norm}"
        )
