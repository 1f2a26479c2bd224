"""Training on all images: the three ways, on a problem of three classes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.config import ModelConfig, RepresentationStage, RunConfig
from ltdd_ray.evaluate.full_data import full_data_epochs, train_on_all
from ltdd_ray.evaluate.train import measure
from ltdd_ray.experts.train import representation_stage
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.networks import build_network

LABELS = torch.tensor([0] * 40 + [1] * 8 + [2] * 2)


@pytest.fixture
def images() -> torch.Tensor:
    """Classes that overlap, so that the prior decides between them."""
    noise = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return noise + 0.3 * LABELS.view(-1, 1, 1, 1) * torch.linspace(-1, 1, 8)


@pytest.fixture
def config(tiny: Callable[..., RunConfig], tmp_path: Path) -> RunConfig:
    full = {"epochs": 3, "batch_size": 16, "lr": 0.1, "weight_decay": 0.01}
    return tiny(tmp_path, evaluate={"full_data": full}, augmentation="")


def network(norm: str = "instance") -> nn.Module:
    return build_network(
        ModelConfig.model_validate({"width": 4, "depth": 1, "norm": norm}), (1, 8, 8), 3, seed=0
    )


def trained(
    name: str, images: torch.Tensor, config: RunConfig, norm: str = "instance"
) -> tuple[nn.Module, list[int]]:
    model, epochs = network(norm), []
    train_on_all(model, name, images, LABELS, config, seed=5, on_epoch=epochs.append)
    return model, epochs


def test_cross_entropy_is_the_experts_first_stage(images: torch.Tensor, config: RunConfig) -> None:
    model, epochs = trained("full_ce", images, config)
    stage = RepresentationStage(
        epochs=3, batch_size=16, lr=0.1, weight_decay=0.01, sharpness="none"
    )
    *_, last = representation_stage(
        stage, FlatModel(network()), images, LABELS, Augmentation(""), 5, 0
    )
    assert torch.equal(FlatModel(model).initial(), last.theta)
    assert epochs == [1, 2, 3] and full_data_epochs(config, "full_ce") == 3


def test_decoupled_moves_the_classifier_of_the_same_network_alone(
    images: torch.Tensor, config: RunConfig
) -> None:
    flat = FlatModel(trained("full_ce", images, config)[0])
    model, epochs = trained("full_decoupled", images, config)
    (backbone, head), (same, moved) = (
        flat.split(flat.initial()),
        flat.split(FlatModel(model).initial()),
    )
    assert torch.equal(backbone, same) and not torch.equal(head, moved)
    assert epochs == [1, 2, 3, 4, 5, 6] and full_data_epochs(config, "full_decoupled") == 6


def test_balanced_softmax_predicts_rare_classes_more_often(
    images: torch.Tensor, config: RunConfig
) -> None:
    plain, balanced = (
        trained(name, images, config)[0] for name in ("full_ce", "full_balanced_softmax")
    )
    with torch.no_grad():
        shift = (balanced(images) - plain(images)).mean(0)
    assert shift[2] > shift[1] > shift[0]


def test_batch_norm_has_running_averages_to_be_measured_with(
    images: torch.Tensor, config: RunConfig
) -> None:
    model, _ = trained("full_ce", 5 + images, config, "batch")
    (norm,) = (module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    fresh = next(
        module for module in network("batch").modules() if isinstance(module, nn.BatchNorm2d)
    )
    assert not torch.equal(norm.running_mean, fresh.running_mean)
    assert measure(model, 5 + images, LABELS).per_class[0] > 0.5


def test_a_rate_too_high_names_its_setting(images: torch.Tensor, config: RunConfig) -> None:
    settings = config.evaluate.full_data.model_copy(update={"lr": 1e30})
    diverging = config.model_copy(
        update={"evaluate": config.evaluate.model_copy(update={"full_data": settings})}
    )
    with pytest.raises(NonFiniteLossError, match=r"full_ce: .* lower evaluate\.full_data\.lr"):
        trained("full_ce", images, diverging)
