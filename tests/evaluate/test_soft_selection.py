"""Real images with the experts' labels, against labels worked out one picture at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.evaluate.sets import training_set
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import expert_network
from ltdd_ray.store import TrajectoryStore

Tiny = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def config(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    config = tiny(tmp_path_factory.mktemp("soft"))
    data = prepare_data(config)
    for expert in range(config.experts.count):
        run_expert(config, data, expert, lambda report: None)
    return config


@pytest.fixture(scope="module")
def data(config: RunConfig) -> PreparedData:
    return prepare_data(config)


def changed(config: RunConfig, **settings) -> RunConfig:
    return config.model_copy(update={"distill": config.distill.model_copy(update=settings)})


def logits_of(config: RunConfig, data: PreparedData, pictures: torch.Tensor) -> torch.Tensor:
    """Logits (E, P, C) of the ends of the stage that labels."""
    stage, store = config.distill.label_expert, TrajectoryStore.open(config.store_uri)
    flat, found = expert_network(config, data.train, 0), []
    for expert in range(config.experts.count):
        found.append(flat.logits(store.theta(expert, stage), pictures))
    return torch.stack(found)


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("name", ["random", "k_center"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"initial_labels": "one_hot", "label_expert": "representation", "label_temperature": 3.0},
        {"initial_label_rule": "one_expert"},
    ],
)
def test_the_images_of_a_selection_with_the_labels_of_the_experts(
    config: RunConfig, data: PreparedData, name: str, side: int, settings: dict
) -> None:
    config = changed(config, pictures_per_side=side, **settings)
    hard = training_set(config, data, name, network=1)
    soft = training_set(config, data, f"{name}_soft", network=1)
    assert torch.equal(soft.images, hard.images) and soft.learning_rate == hard.learning_rate
    assert hard.hard and not soft.hard and len(soft.images) == 20 * side**2
    logits, classes = logits_of(config, data, hard.images), hard.soft_labels.argmax(-1)
    right = 0
    for picture, label in enumerate(classes.tolist()):
        own = logits[:, picture]
        if config.distill.initial_label_rule == "one_expert":
            chosen = own[:1]
        else:
            chosen = own[own.argmax(-1) == label]
            right += 0 < len(chosen) < len(own)
            chosen = chosen if len(chosen) else own
        expected = (chosen.mean(0) / config.distill.label_temperature).softmax(-1)
        torch.testing.assert_close(soft.soft_labels[picture], expected, rtol=1e-4, atol=1e-5)
    assert right or config.distill.initial_label_rule == "one_expert", "no label shows the rule"


def test_random_images_are_drawn_and_labelled_anew_for_every_network(
    config: RunConfig, data: PreparedData
) -> None:
    one, two = (training_set(config, data, "random_soft", network) for network in (0, 1))
    assert not torch.equal(one.images, two.images)
    assert not torch.allclose(one.soft_labels, two.soft_labels, atol=1e-3)


@pytest.mark.parametrize("name", ["random_soft", "k_center_soft"])
def test_without_experts_there_are_no_labels(tiny: Tiny, tmp_path: Path, name: str) -> None:
    config = tiny(tmp_path)
    with pytest.raises(UserError, match=r"no trajectory store here; .* train the experts first"):
        training_set(config, prepare_data(config), name, network=0)
