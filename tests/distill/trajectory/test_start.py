"""The labels that a set starts with."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, model_space, prepare_data
from ltdd_ray.distill.trajectory.start import expert_logits, initial_set
from ltdd_ray.distill.trajectory.synthetic import SyntheticSet
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import expert_network
from ltdd_ray.experts.train import representation_stage
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.losses import hard_label_loss
from ltdd_ray.store import TrajectoryStore

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tiny: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run whose labels are those of trained, debiased representation experts."""
    folder = tmp_path_factory.mktemp("start")
    plain = tiny(folder)
    debiased = {"criterion": "balanced_softmax", "schedule": "cosine", "momentum": 0.9}
    stage = plain.experts.representation.model_copy(update=debiased)
    config = plain.model_copy(
        update={"experts": plain.experts.model_copy(update={"representation": stage})}
    )
    data = prepare_data(config)
    for expert in range(config.experts.count):
        run_expert(config, data, expert, lambda report: None)
    return changed(config, label_expert="representation", initial_label_rule="all_experts")


@pytest.fixture(scope="module")
def data(config: RunConfig) -> PreparedData:
    return prepare_data(config)


def changed(config: RunConfig, **settings) -> RunConfig:
    return config.model_copy(update={"distill": config.distill.model_copy(update=settings)})


def start(config: RunConfig, data: PreparedData) -> SyntheticSet:
    store = TrajectoryStore.open(config.store_uri)
    return initial_set(config, data, expert_network(config, data.train, 0), store, CPU)[0]


def test_debiased_experts_give_the_labels(config: RunConfig, data: PreparedData) -> None:
    """They are the mean logits of networks trained here once more, without the store."""
    found = start(config, data)
    images, labels = model_space(data.train, data.normalisation, CPU)
    stage, augment = config.experts.representation, Augmentation(config.augmentation)
    logits = []
    for expert in range(config.experts.count):
        flat = expert_network(config, data.train, expert)
        loss = hard_label_loss("balanced_softmax", labels)
        *_, last = representation_stage(
            stage, flat, images, labels, augment, config.seed, expert, loss
        )
        logits.append(flat.logits(last.theta, found.images.detach()))
    expected = torch.stack(logits).mean(0)
    torch.testing.assert_close(found.labels.detach(), expected, rtol=1e-4, atol=1e-5)
    others = start(changed(config, label_expert="classifier", initial_images="random"), data)
    same = start(changed(config, initial_images="random"), data)
    assert not torch.allclose(others.labels, same.labels, atol=1e-2)


@pytest.mark.parametrize("images", ["correct", "noise"])
def test_a_label_temperature_divides_the_logits(
    config: RunConfig, data: PreparedData, images: str
) -> None:
    plain = start(changed(config, initial_images=images), data)
    warm = start(changed(config, initial_images=images, label_temperature=2.5), data)
    assert torch.equal(warm.images, plain.images)
    # softmax(z / T) is proportional to softmax(z) to the power of 1 / T
    power = plain.labels.detach().double().softmax(-1) ** (1 / 2.5)
    expected = (power / power.sum(-1, keepdim=True)).float()
    torch.testing.assert_close(warm.labels.detach().softmax(-1), expected)
    assert not torch.allclose(plain.labels.detach().softmax(-1), expected, atol=1e-3)


def test_hard_labels_have_no_temperature(config: RunConfig, data: PreparedData) -> None:
    found = start(changed(config, initial_labels="one_hot", label_temperature=100.0), data)
    one_hot = torch.nn.functional.one_hot(found.classes, data.train.num_classes).float()
    assert torch.equal(found.labels.detach().softmax(-1), one_hot)


def test_batch_norm_sees_all_classes_and_the_order_is_undone(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """In class order a part of 512 images would hold a few classes, normalised by themselves."""
    config = tiny(tmp_path, model={"width": 4, "depth": 2, "norm": "batch"})
    data = prepare_data(config)
    for expert in range(config.experts.count):
        run_expert(config, data, expert, lambda report: None)
    flat, store = expert_network(config, data.train, 0), TrajectoryStore.open(config.store_uri)
    images, labels = model_space(data.train, data.normalisation, CPU)
    ordered = images[labels.argsort(stable=True).repeat_interleave(4)]
    assert len(ordered) > 3 * 512
    found = next(expert_logits(config, flat, store, ordered, as_they_are=True))
    together = flat.logits(store.theta(0, "classifier"), ordered)
    agree = (found.argmax(-1) == together.argmax(-1)).float().mean()
    assert agree > 0.95, "a part has about the statistics of all images"
