"""What of a network's view of an image is compared: its last features, or those of every block.

Features of all blocks are aligned by CAFE (Wang et al., CVPR 2022). Here each block's output is
averaged over cells, as many as the last block has pixels, so that every block counts with equally
many features. A cell of s x s pixels is scaled by s: the mean of independent values then keeps
their spread.

B images, W channels, h x w pixels of the last block, D blocks.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from ltdd_ray.nn.convnet import ConvNet
from ltdd_ray.nn.networks import Network


class Embedding(NamedTuple):
    """``compared`` (B, E) enters the distance, ``last`` (B, W h w) the classifier.

    E is W h w, or D times as much for all blocks.
    """

    compared: Tensor
    last: Tensor


def embed(network: Network, images: Tensor, layers: Literal["last", "all"]) -> Embedding:
    """The embedding of ``images`` (B, K, H, W); ``all`` needs a ConvNet."""
    if layers == "last":
        last = network.backbone(images)
        return Embedding(last, last)
    blocks = _blocks(network.backbone, images)
    *_, height, width = blocks[-1].shape
    cells = [
        adaptive_avg_pool2d(block, (height, width)) * (block.shape[-1] / width)
        for block in blocks[:-1]
    ]
    last = blocks[-1].flatten(1)
    return Embedding(torch.cat([*(cell.flatten(1) for cell in cells), last], 1), last)


def _blocks(backbone: nn.Module, images: Tensor) -> list[Tensor]:
    if isinstance(backbone, ConvNet):
        return backbone.blocks(images)
    blocks, x = [], images
    for layer in backbone.children():
        x = layer(x)
        if isinstance(layer, nn.AvgPool2d):
            blocks.append(x)
    return blocks
