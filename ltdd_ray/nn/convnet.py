"""ConvNet-D (Gidaris & Komodakis, CVPR 2018) on the kernels of ``kernels/``."""

from typing import Literal

import torch
from torch import Tensor, nn

from ltdd_ray.nn.kernels import first
from ltdd_ray.nn.kernels.batch_norm import BatchNormReluPool
from ltdd_ray.nn.kernels.convolution import Convolution, channels_last, convolution_dtype
from ltdd_ray.nn.kernels.fused import NormReluPool


class ConvNet(nn.Sequential):
    """D blocks of 3x3 convolution, instance or batch norm, ReLU and 2x2 average pooling.

    Images (B, channels, H, W) -> features (B, width * (H // 2^D) * (W // 2^D)).
    """

    def __init__(
        self, channels: int, width: int, depth: int, norm: Literal["instance", "batch"]
    ) -> None:
        layers: list[nn.Module] = []
        for block in range(depth):
            # As published, a convolution has a bias, although the instance norm cancels it.
            convolution = Convolution(width if block else channels, width, norm == "instance")
            rest = NormReluPool(width) if norm == "instance" else BatchNormReluPool(width)
            layers += [convolution, rest]
        super().__init__(*layers, nn.Flatten())
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.blocks(images)[-1].flatten(1)

    def blocks(self, images: Tensor) -> list[Tensor]:
        """The output of each block, (B, width, H / 2, W / 2) and so on."""
        x, layers, outputs = channels_last(images), list(self.children()), []
        for convolution, rest in zip(layers[0:-1:2], layers[1::2]):
            assert isinstance(convolution, Convolution)
            fused = not outputs and not torch.is_grad_enabled()
            fused = fused and x.dtype == convolution_dtype(convolution.weight)
            if fused and isinstance(rest, NormReluPool):
                # The block's largest tensor never leaves the cache, since no gradient will need it.
                x, *_ = first.forward(x, convolution.weight, rest.weight, rest.bias)
            else:
                x = rest(convolution(x))
            outputs.append(x)
        return outputs
