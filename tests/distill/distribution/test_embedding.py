"""What is compared of a network's view of images: the last features, or those of every block."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv2d, group_norm

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ModelConfig, RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.distribution.dm import DistributionMatching
from ltdd_ray.distill.distribution.embedding import embed
from ltdd_ray.distill.distribution.idm import ImprovedDistributionMatching
from ltdd_ray.nn.networks import Network, build_network

Tiny = Callable[..., RunConfig]
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def network(**settings) -> Network:
    return build_network(ModelConfig(**{"width": 4, "depth": 2} | settings), (3, 16, 16), 5, seed=2)


def test_the_last_features_are_those_of_the_backbone() -> None:
    own = network()
    found = embed(own, IMAGES, "last")
    assert found.compared is found.last and torch.equal(found.last, own.backbone(IMAGES))


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_all_blocks_by_hand(norm: str) -> None:
    own = network(norm=norm)
    x, pooled = IMAGES, []
    for weight, bias, scale, shift in zip(*parameters(own, norm)):
        x = conv2d(x, weight, bias, padding=1)
        if norm == "instance":
            x = group_norm(x, 4, scale, shift)
        x = x.relu().unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
        pooled.append(x)
    # The first block has 8 x 8 pixels, the last 4 x 4: cells of 2 x 2, scaled by 2.
    cells = 2 * pooled[0].unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    found = embed(own, IMAGES, "all")
    assert found.compared.shape == (3, 2 * 4 * 4 * 4)
    torch.testing.assert_close(
        found.compared, torch.cat([cells.flatten(1), pooled[1].flatten(1)], 1)
    )
    torch.testing.assert_close(found.last, own.backbone(IMAGES))


def parameters(own: Network, norm: str) -> tuple:
    """Weights and biases of the two convolutions, scales and shifts of the two norms."""
    convolutions = [p for p in own.backbone.parameters() if p.ndim == 4]
    vectors = [p for p in own.backbone.parameters() if p.ndim == 1]
    if norm == "none":
        return convolutions, vectors, [None] * 2, [None] * 2
    return convolutions, vectors[::3], vectors[1::3], vectors[2::3]


@pytest.mark.parametrize("engine", [DistributionMatching, ImprovedDistributionMatching])
def test_earlier_blocks_enter_the_distance(engine, tiny: Tiny, tmp_path: Path) -> None:
    def distance(layers: str) -> float:
        distill = {"ipc": 2, "engine": "dm", "distribution": {"layers": layers}}
        config = tiny(tmp_path, distill=distill)
        method = engine(config, prepare_data(config), torch.device("cpu"))
        own = method.network(method.optimiser(), 0)
        loss, metrics = method.loss(own, *method.batches(0), 0)
        return float(metrics.get("loss/distance", loss).detach())

    assert distance("all") > distance("last") > 0


def test_a_network_without_blocks_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    distill = {"ipc": 2, "engine": "dm", "distribution": {"layers": "all"}}
    with pytest.raises(UserError, match=r"layers all needs the blocks of model\.name convnet"):
        tiny(tmp_path, model={"name": "resnet18"}, distill=distill)
