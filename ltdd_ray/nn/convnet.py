"""ConvNet-D with instance norm (Gidaris & Komodakis, CVPR 2018) on the kernels of ``kernels/``."""

import torch
from torch import Tensor, nn

from ltdd_ray.nn.kernels import first
from ltdd_ray.nn.kernels.convolution import Convolution, channels_last, convolution_dtype
from ltdd_ray.nn.kernels.fused import NormReluPool


class ConvNet(nn.Sequential):
    """D blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling.

    Images (B, channels, H, W) -> features (B, width * (H // 2^D) * (W // 2^D)).
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [Convolution(width if block else channels, width), NormReluPool(width)]
        super().__init__(*layers, nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.blocks(images)[-1].flatten(1)

    def blocks(self, images: Tensor) -> list[Tensor]:
        """The output of each block, (B, width, H / 2, W / 2) and so on."""
        x, layers, outputs = channels_last(images), list(self.children()), []
        for convolution, norm in zip(layers[0:-1:2], layers[1::2]):
            assert isinstance(convolution, Convolution) and isinstance(norm, NormReluPool)
            fused = not outputs and not torch.is_grad_enabled()
            if fused and x.dtype == convolution_dtype(convolution.weight):
                # The block's largest tensor never leaves the cache, since no gradient will need it.
                x, *_ = first.forward(x, convolution.weight, norm.weight, norm.bias)
            else:
                x = norm(convolution(x))
            outputs.append(x)
        return outputs
