"""The stages on problems small enough to reason about."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import ClassifierStage, ModelConfig, RepresentationStage, RunConfig
from ltdd_ray.data.prepare import model_space, prepare_data
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.experts.sam import sharpen
from ltdd_ray.experts.train import balanced_indices, classifier_stage, representation_stage
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import hard_label_loss
from ltdd_ray.nn.networks import build_network
from ltdd_ray.store import TrajectoryStore

PLAIN = Augmentation("")
LABELS = torch.tensor([0] * 12 + [1] * 5 + [2])


@pytest.fixture
def flat() -> FlatModel:
    return FlatModel(build_network(ModelConfig(width=4, depth=1), (1, 8, 8), 3, seed=0))


@pytest.fixture
def images() -> torch.Tensor:
    noise = torch.randn(18, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return noise + LABELS.view(-1, 1, 1, 1) * torch.linspace(-2, 2, 8)


def test_representation_stage_is_torchs_sgd(flat: FlatModel, images: torch.Tensor) -> None:
    stage = RepresentationStage(
        epochs=2, batch_size=7, lr=0.1, momentum=0.9, weight_decay=0.01, sharpness="none"
    )
    epochs = list(representation_stage(stage, flat, images, LABELS, PLAIN, seed=3, expert=1))
    model = build_network(ModelConfig(width=4, depth=1), (1, 8, 8), 3, seed=0)
    optimiser = SGD(model.parameters(), 0.1, 0.9, weight_decay=0.01)
    for epoch in (1, 2):
        total = 0.0
        for index in torch.randperm(18, generator=generator(3, "representation", 1, epoch)).split(
            7
        ):
            optimiser.zero_grad()
            loss = cross_entropy(model(images[index]), LABELS[index])
            loss.backward()
            total += loss.item() * len(index)
            optimiser.step()
        torch.testing.assert_close(epochs[epoch].theta, FlatModel(model).initial())
        assert epochs[epoch].loss == pytest.approx(total / 18, rel=1e-5)
    assert [e.epoch for e in epochs] == [0, 1, 2]
    assert epochs[0].loss is None and 0 < epochs[2].accuracy <= 1


def test_a_debiased_expert_on_a_falling_rate_is_torchs_sgd(
    flat: FlatModel, images: torch.Tensor
) -> None:
    stage = RepresentationStage(
        epochs=2, batch_size=7, lr=0.1, schedule="cosine", weight_decay=0.01, sharpness="none"
    )
    loss = hard_label_loss("balanced_softmax", LABELS)
    epochs = list(representation_stage(stage, flat, images, LABELS, PLAIN, 3, 1, loss))
    model = build_network(ModelConfig(width=4, depth=1), (1, 8, 8), 3, seed=0)
    log_prior, step = torch.tensor([12 / 18, 5 / 18, 1 / 18]).log(), 0
    for epoch in (1, 2):
        for index in torch.randperm(18, generator=generator(3, "representation", 1, epoch)).split(
            7
        ):
            rate = 0.1 * (1 + math.cos(math.pi * step / 6)) / 2  # six batches in all
            model.zero_grad()
            cross_entropy(model(images[index]) + log_prior, LABELS[index]).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter -= rate * (parameter.grad + 0.01 * parameter)
            step += 1
        expected = FlatModel(model).initial()
        torch.testing.assert_close(epochs[epoch].theta, expected, rtol=0, atol=1e-6)


def test_the_criterion_of_the_config_reaches_the_experts(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Debiased experts give the smallest class a larger share of their predictions."""
    shares = {}
    for criterion in ("cross_entropy", "balanced_softmax"):
        stage = {"epochs": 5, "batch_size": 32, "lr": 0.1, "sharpness": "none"}
        experts = {"count": 1, "representation": {**stage, "criterion": criterion}}
        config = tiny(tmp_path / criterion, experts=experts)
        data = prepare_data(config)
        run_expert(config, data, 0, lambda report: None)
        store = TrajectoryStore.open(config.store_uri, expect=expectation(config, data.train))
        theta = store.theta(0, "representation")
        flat = expert_network(config, data.train, 0)
        images, _ = model_space(data.evaluation, data.normalisation, torch.device("cpu"))
        smallest = int(data.train.class_counts.argmin())
        shares[criterion] = float(flat.logits(theta, images).softmax(-1)[:, smallest].mean())
    assert shares["balanced_softmax"] > 1.2 * shares["cross_entropy"]


def test_classifier_stage_trains_the_head_alone_on_frozen_features(
    flat: FlatModel, images: torch.Tensor
) -> None:
    """Against torch's SGD on a linear layer over features computed before any training."""
    stage = ClassifierStage(
        epochs=4, batch_size=6, lr=0.3, momentum=0.5, weight_decay=0.01, max_norm=None
    )
    theta = flat.initial() + 0.1  # not the model's own weights, which must not be used instead
    theta_before = theta.clone()
    model_before = {name: value.clone() for name, value in flat.model.state_dict().items()}
    backbone, head = (part.clone() for part in flat.split(theta))
    features = flat.features(theta, images).detach()
    linear = torch.nn.Linear(features.shape[1], 3)
    torch.nn.utils.vector_to_parameters(head, linear.parameters())
    optimiser = SGD(linear.parameters(), 0.3, 0.5, weight_decay=0.01)

    epochs = list(classifier_stage(stage, flat, theta, images, LABELS, PLAIN, seed=0, expert=0))
    assert torch.equal(epochs[0].theta, head)
    for epoch in range(1, 5):
        losses = []
        draw = generator(0, "classifier", 0, epoch)
        for index in balanced_indices(LABELS, stage.samples_per_class, draw).split(6):
            optimiser.zero_grad()
            loss = cross_entropy(linear(features[index]), LABELS[index])
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        trained = torch.nn.utils.parameters_to_vector(linear.parameters())
        torch.testing.assert_close(epochs[epoch].theta, trained.detach())
        assert epochs[epoch].loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert epochs[4].loss < 0.5 * epochs[1].loss
    assert torch.equal(theta, theta_before)
    assert torch.equal(flat.split(theta)[0], backbone)
    assert all(
        torch.equal(value, model_before[name]) for name, value in flat.model.state_dict().items()
    )


def test_max_norm_caps_every_row(flat: FlatModel, images: torch.Tensor) -> None:
    theta = flat.initial()
    norms = flat.head_weight(flat.split(theta)[1]).norm(dim=1)
    cap = float(norms.min() + 0.1 * (norms.max() - norms.min()))
    capped, free = (
        list(
            classifier_stage(
                ClassifierStage(epochs=2, lr=0.5, max_norm=share),
                flat,
                theta,
                images,
                LABELS,
                PLAIN,
                0,
                0,
            )
        )[-1].theta
        for share in (0.1, None)
    )
    assert float(flat.head_weight(capped).norm(dim=1).max()) <= cap * (1 + 1e-5)
    assert float(flat.head_weight(free).norm(dim=1).max()) > cap


def test_a_stage_that_diverges_says_so(flat: FlatModel, images: torch.Tensor) -> None:
    stage = RepresentationStage(epochs=1, lr=0.1, sharpness="none")
    with pytest.raises(NonFiniteLossError, match="expert 7, representation epoch 1"):
        list(
            representation_stage(
                stage, flat, images * float("inf"), LABELS, PLAIN, seed=0, expert=7
            )
        )


def test_balanced_indices_give_every_class_the_same() -> None:
    index = balanced_indices(LABELS, 4, generator(0, "test"))
    drawn = LABELS[index]
    assert torch.bincount(drawn).tolist() == [12, 12, 12]
    assert all(len(set(block.tolist())) == 1 for block in drawn.split(4))
    assert all(len(set(drawn[at : at + 12].tolist())) == 3 for at in range(0, 36, 12))
    assert torch.bincount(index, minlength=18)[:12].tolist() == [1] * 12
    assert sorted(torch.bincount(index, minlength=18)[12:17].tolist()) == [2, 2, 2, 3, 3]


def test_sharpness_on_a_quadratic() -> None:
    """f = theta' A theta / 2 has the gradient A theta; SAM and GSAM follow by hand."""
    curvature = torch.tensor([4.0, 1.0])
    theta = torch.tensor([1.0, 1.0])
    here = curvature * theta
    ahead = curvature * (theta + 0.1 * here / here.norm())

    def direction(kind) -> torch.Tensor:
        return sharpen(here, lambda at: curvature * at, theta, kind, rho=0.1, alpha=0.3)

    assert torch.equal(direction("none"), here)
    torch.testing.assert_close(direction("sam"), ahead)
    across = here - (here @ ahead) / (ahead @ ahead) * ahead
    torch.testing.assert_close(direction("gsam"), ahead - 0.3 * across)
    assert abs(float(across @ ahead)) < 1e-5


def adaptive_gsam_by_hand(
    model: torch.nn.Module, batch: torch.Tensor, target: torch.Tensor
) -> None:
    """A step of adaptive GSAM and SGD by hand: rho 0.5, alpha 0.3, lr 0.1, decay 0.01."""
    parameters = [one for one in model.parameters() if one.requires_grad]
    start = [one.detach().clone() for one in parameters]
    old = torch.autograd.grad(cross_entropy(model(batch), target), parameters)
    norm = sum(((one * g) ** 2).sum() for one, g in zip(start, old)) ** 0.5
    with torch.no_grad():
        for one, g in zip(parameters, old):
            one += 0.5 * one**2 * g / norm
    new = torch.autograd.grad(cross_entropy(model(batch), target), parameters)
    old_norm = sum((g**2).sum() for g in old) ** 0.5
    new_norm = sum((g**2).sum() for g in new) ** 0.5
    cosine = sum((a * b).sum() for a, b in zip(old, new)) / (old_norm * new_norm)
    with torch.no_grad():
        for one, at, a, b in zip(parameters, start, old, new):
            across = a - cosine * old_norm * b / new_norm
            one.copy_(at - 0.1 * (b - 0.3 * across + 0.01 * at))


ADAPTIVE = {"sharpness": "gsam", "rho": 0.5, "alpha": 0.3, "adaptive": True}
STEP = {"epochs": 1, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.01}


def test_a_step_of_adaptive_gsam_is_the_one_written_by_hand(
    flat: FlatModel, images: torch.Tensor
) -> None:
    stage = RepresentationStage(batch_size=18, **STEP, **ADAPTIVE)
    found = list(representation_stage(stage, flat, images, LABELS, PLAIN, seed=3, expert=1))[-1]
    model = build_network(ModelConfig(width=4, depth=1), (1, 8, 8), 3, seed=0)
    adaptive_gsam_by_hand(model, images, LABELS)
    torch.testing.assert_close(found.theta, FlatModel(model).initial(), rtol=1e-4, atol=1e-6)
    start = build_network(ModelConfig(width=4, depth=1), (1, 8, 8), 3, seed=0)
    assert found.loss == pytest.approx(cross_entropy(start(images), LABELS).item(), rel=1e-5)
    plain = RepresentationStage(batch_size=18, **STEP, **{**ADAPTIVE, "adaptive": False})
    other = list(representation_stage(plain, flat, images, LABELS, PLAIN, seed=3, expert=1))[-1]
    assert float((other.theta - found.theta).abs().max()) > 1e-3


def test_a_step_of_the_classifier_stage_can_be_sharpness_aware(
    flat: FlatModel, images: torch.Tensor
) -> None:
    """The norms are those of the classifier alone; the backbone takes no part."""
    stage = ClassifierStage(batch_size=100, max_norm=None, **STEP, **ADAPTIVE)
    theta = flat.initial()
    found = list(classifier_stage(stage, flat, theta, images, LABELS, PLAIN, seed=0, expert=0))[-1]
    index = balanced_indices(LABELS, 4, generator(0, "classifier", 0, 1))
    features = flat.features(theta, images).detach()
    linear = torch.nn.Linear(features.shape[1], 3)
    torch.nn.utils.vector_to_parameters(flat.split(theta)[1].clone(), linear.parameters())
    adaptive_gsam_by_hand(linear, features[index], LABELS[index])
    expected = torch.nn.utils.parameters_to_vector(linear.parameters()).detach()
    torch.testing.assert_close(found.theta, expected, rtol=1e-4, atol=1e-6)
