"""The floor counts the kernels that the engine calls, and the passes that they make."""

from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ltdd_ray.bench import floor
from ltdd_ray.bench.floor import FIRST_LAYER, OTHER_LAYERS, Floor
from ltdd_ray.bench.sizes import TINY
from ltdd_ray.config import ModelConfig
from ltdd_ray.distill.trajectory.matching import match
from ltdd_ray.nn import convnet_passes
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.kernels import build, first
from ltdd_ray.nn.losses import soft_cross_entropy
from ltdd_ray.nn.networks import build_network

STEPS, DEPTH, WIDTH, IMAGES = 3, 2, 8, 4


@pytest.fixture
def flat() -> FlatModel:
    return FlatModel(build_network(ModelConfig(width=WIDTH, depth=DEPTH), (3, 8, 8), 4, seed=0))


def run(flat: FlatModel) -> None:
    start, images = flat.initial(), torch.randn(IMAGES, 3, 8, 8)
    settings = {
        "scope": "backbone",
        "loss": soft_cross_entropy,
        "augment": Augmentation(""),
        "seed": 0,
    }
    match(
        flat,
        start,
        start + 0.1,
        images,
        torch.randn(IMAGES, 4),
        0.1,
        steps=STEPS,
        batch_size=IMAGES,
        **settings,
    )


def test_the_table_is_what_an_exact_step_calls(
    flat: FlatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: Counter[str] = Counter()

    def count(module, name: str) -> None:
        kernel = getattr(module, name)

        def counting(*arguments):
            called[name] += 1
            return kernel(*arguments)

        monkeypatch.setattr(module, name, counting)

    for name in OTHER_LAYERS:
        count(convnet_passes, name)
    for name in FIRST_LAYER:
        count(first, name)
    run(flat)
    expected = Counter({name: STEPS * calls for name, calls in FIRST_LAYER.items()})
    for name, calls in OTHER_LAYERS.items():
        expected[name] += STEPS * (DEPTH - 1) * calls
    assert called == expected


def test_a_step_makes_7_passes_over_the_first_layer_and_11_over_others(
    flat: FlatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "load_kernels", lambda real: None)  # torch counts no C kernel
    with FlopCounterMode(display=False) as counter:
        run(flat)
    operations = counter.get_flop_counts()["Global"]
    counted = sum(
        operations[op] for op in (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)
    )
    # Operations per input channel and tap; a pass has 9 taps.
    each = [2 * IMAGES * (8 // 2**block) ** 2 * WIDTH for block in range(DEPTH)]
    first_layer, others = each[0] * 3 * 9, sum(each[1:]) * WIDTH * 9
    assert counted == STEPS * (7 * first_layer + 11 * others)


def test_the_floor_is_the_sum_over_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []
    monkeypatch.setattr(floor, "_median_seconds", lambda kernel: timed.append(kernel()) or 0.5)
    first_layer_calls, second_layer_calls = 4, 6
    calls = first_layer_calls + second_layer_calls
    assert Floor(TINY).seconds() == TINY.steps * 0.5 * calls
    assert len(timed) == 4 + 6  # kernels of the two layers, each run once
