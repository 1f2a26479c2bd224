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

from ltdd_ray.nn.kernels.convolution import channels_last
from ltdd_ray.nn.kernels.fused import NormReluPool
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
    blocks, x = [], channels_last(images)
    for layer in network.backbone.children():
        x = layer(x)
        if isinstance(layer, NormReluPool | nn.AvgPool2d):
            blocks.append(x)
    size = blocks[-1].shape[-2:]
    cells = [
        adaptive_avg_pool2d(block, size) * (block.shape[-1] / size[-1]) for block in blocks[:-1]
    ]
    return Embedding(torch.cat([*(cell.flatten(1) for cell in cells), x], 1), x)
