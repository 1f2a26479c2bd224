"""ConvNet-D (Gidaris & Komodakis, CVPR 2018) from standard modules; a module of a flat vector."""

from torch import Tensor, nn
from torch.func import functional_call


class ConvNet(nn.Module):
    """Images (B, channels, size, size) -> logits (B, classes).

    Blocks of convolution, instance norm, ReLU and average pooling.
    """

    def __init__(
        self, channels: int, image_size: int, width: int, depth: int, classes: int
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for block in range(depth):
            convolution = nn.Conv2d(width if block else channels, width, 3, padding=1)
            blocks += [convolution, nn.GroupNorm(width, width), nn.ReLU(), nn.AvgPool2d(2)]
        self.backbone = nn.Sequential(*blocks, nn.Flatten())
        self.classifier = nn.Linear(width * (image_size // 2**depth) ** 2, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.backbone(images))


class Student:
    """A module with its parameters, in module order, taken from a vector (P,)."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]

    def __call__(self, theta: Tensor, images: Tensor) -> Tensor:
        views = {
            name: piece.view(shape)
            for (name, shape), piece in zip(self.shapes.items(), theta.split(self.sizes))
        }
        return functional_call(self.module, views, (images,))
