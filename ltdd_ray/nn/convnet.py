"""ConvNet-D with instance norm (Gidaris & Komodakis, CVPR 2018) on the kernels of ``kernels/``."""

from torch import Tensor, nn

from ltdd_ray.nn.kernels.convolution import Convolution, channels_last
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
        return super().forward(channels_last(images))
