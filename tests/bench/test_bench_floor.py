"""The floor counts the convolution passes that the engine makes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ltdd_ray.augment import Augmentation
from ltdd_ray.bench.floor import FIRST_LAYER, OTHER_LAYERS
from ltdd_ray.config import ModelConfig
from ltdd_ray.distill.matching import match
from ltdd_ray.losses import soft_cross_entropy
from ltdd_ray.nn import native
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.networks import build_network


def test_the_table_is_what_an_exact_step_does() -> None:
    if native.load_kernels("float") is None:
        pytest.skip("no C compiler")
    flat = FlatModel(build_network(ModelConfig(width=8, depth=2), (3, 8, 8), 4, seed=0))
    start, images = flat.initial(), torch.randn(4, 3, 8, 8)
    settings = {"scope": "backbone", "loss": soft_cross_entropy, "augment": Augmentation(""), "seed": 0}
    with FlopCounterMode(display=False) as counter:
        match(flat, start, start + 0.1, images, torch.randn(4, 4), 0.1, steps=3, batch_size=4, **settings)
    operations = counter.get_flop_counts()["Global"]
    counted = sum(operations[op] for op in (torch.ops.aten.convolution, torch.ops.aten.convolution_backward))
    flops = [2 * 4 * 64 * 3 * 8 * 9, 2 * 4 * 16 * 8 * 8 * 9]  # of one pass: images, pixels, channels in, channels out, kernel
    passes = [p.forward + p.input_gradient + p.weight_gradient for p in (FIRST_LAYER, OTHER_LAYERS)]
    fold = 2 * 2 * 4 * 64 * 8  # both input gradients of the first layer are products with 28 rows where 27 count
    fused = flops[0]  # the inner step's weight gradient of the first layer, which is no convolution of torch's
    assert counted == 3 * (sum(a * b for a, b in zip(flops, passes)) + fold - fused)
