"""The debiased stage against its formulas, finite differences and a plain loop of torch's SGD."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.autograd import grad
from torch.nn.functional import cross_entropy, normalize
from torch.optim import SGD

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import ModelConfig, RepresentationStage, RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.experts.debiased import (
    class_weights,
    debiased_stage,
    dissimilarity,
    heads,
    turning_entropy,
)
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.networks import Network, build_network, mixes_images
from ltdd_ray.store import TrajectoryStore

MODEL = ModelConfig(width=4, depth=1, norm="batch")
LABELS = torch.tensor([0] * 12 + [1] * 5 + [2])
DSA = Augmentation("crop_color")


def network() -> Network:
    return build_network(MODEL, (1, 8, 8), 3, seed=0)


def images() -> torch.Tensor:
    noise = torch.randn(18, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return noise + LABELS.view(-1, 1, 1, 1) * torch.linspace(-2, 2, 8)


def test_rare_classes_weigh_their_share_to_the_power_of_minus_q() -> None:
    weights = class_weights(LABELS, 0.8)
    assert float(weights[1] / weights[0]) == pytest.approx((12 / 5) ** 0.8)
    assert float(weights[2] / weights[0]) == pytest.approx(12**0.8)
    assert float(weights[LABELS].mean()) == pytest.approx(1), "the rate keeps its meaning"
    assert class_weights(LABELS, 0.0).tolist() == pytest.approx([1, 1, 1])


def test_the_loss_turns_from_images_to_classes() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]], dtype=torch.float64)
    labels, weights = torch.tensor([0, 2]), torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    one, other = cross_entropy(logits, labels, reduction="none").tolist()
    for turned in (0.0, 0.25, 1.0):
        expected = (one * (1 - 0.5 * turned) + other * (1 + 3 * turned)) / 2
        assert float(turning_entropy(logits, labels, weights, turned)) == pytest.approx(expected)


def test_the_slope_of_the_loss_is_that_of_finite_differences_with_p_held_fixed() -> None:
    draw = torch.Generator().manual_seed(1)
    z, other_z, p, other_p = torch.randn(4, 5, 3, dtype=torch.float64, generator=draw)
    labels, weights = torch.tensor([0, 1, 2, 1, 0]), torch.tensor([0.5, 1.0, 4.0]).double()

    def value(z: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        # z stands for the logits as well, so both terms are differentiated.
        return dissimilarity([z, other_z], [p, other_p]) + turning_entropy(z, labels, weights, 0.3)

    with torch.no_grad():
        cosines = [(normalize(a) * normalize(b)).sum(1) for a, b in ((z, other_p), (other_z, p))]
        expected = -torch.stack(cosines).mean() + turning_entropy(z, labels, weights, 0.3)
        assert float(value(z, p)) == pytest.approx(float(expected))
    z.requires_grad_()
    p.requires_grad_()
    found, through_p = grad(value(z, p), (z, p), allow_unused=True)
    assert through_p is None, "the projection carries no gradient"
    for _ in range(3):
        way = torch.randn(z.shape, dtype=z.dtype, generator=draw)
        ahead, behind = (float(value(z.detach() + h * way, p)) for h in (1e-6, -1e-6))
        assert float((found * way).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-6)


def test_the_stage_is_torchs_sgd_on_two_mixed_views() -> None:
    stage = RepresentationStage(
        epochs=2,
        batch_size=7,
        lr=0.1,
        momentum=0.9,
        weight_decay=0.01,
        sharpness="none",
        criterion="debiased",
    )
    x = images()
    epochs = list(debiased_stage(stage, FlatModel(network()), x, LABELS, DSA, 3, 1))
    model, weights = network().train(), class_weights(LABELS, 0.8)
    project, predict = heads(model.classifier.in_features, 3, 1)
    moving = [*model.parameters(), *project.parameters(), *predict.parameters()]
    optimiser = SGD(moving, 0.1, 0.9, weight_decay=0.01)
    for epoch, turned in ((1, 0.25), (2, 1.0)):
        draw = generator(3, "representation", 1, epoch)
        for index in torch.randperm(18, generator=draw).split(7):
            order = torch.randperm(len(index), generator=draw)
            share = 0.5 + float(torch.rand((), generator=draw)) / 2
            loss, seen = torch.zeros(()), []
            for _ in range(2):
                view = DSA(x[index], draw)
                features = model.backbone(share * view + (1 - share) * view[order])
                p = project(features)
                seen.append((predict(p), p.detach()))
                logits = model.classifier(features)
                for part, labels in ((share, LABELS[index]), (1 - share, LABELS[index][order])):
                    own = cross_entropy(logits, labels, reduction="none")
                    loss = loss + part * (own * (1 - turned + turned * weights[labels])).mean() / 2
            (z, p), (other_z, other_p) = seen
            cosines = torch.cosine_similarity(z, other_p) + torch.cosine_similarity(other_z, p)
            optimiser.zero_grad()
            (loss - cosines.mean() / 2).backward()
            optimiser.step()
        expected = FlatModel(model).initial()
        torch.testing.assert_close(epochs[epoch].theta, expected, rtol=0, atol=1e-6)
    assert [e.epoch for e in epochs] == [0, 1, 2]


def test_the_rate_falls_where_the_config_says_so() -> None:
    """The last of many batches hardly moves."""
    stage = RepresentationStage(
        epochs=9, batch_size=7, lr=0.1, schedule="cosine", sharpness="none", criterion="debiased"
    )
    thetas = [
        e.theta for e in debiased_stage(stage, FlatModel(network()), images(), LABELS, DSA, 3, 1)
    ]
    assert (thetas[-1] - thetas[-2]).norm() < 0.1 * (thetas[1] - thetas[0]).norm()


def test_experts_of_a_config_are_debiased_and_have_their_own_norm(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    stage = {"epochs": 2, "batch_size": 32, "sharpness": "none", "criterion": "debiased"}
    experts = {"count": 1, "norm": "batch", "representation": stage}
    config = tiny(tmp_path, experts=experts, evaluate={"sets": ["random_soft"]}, distill=DISTILL)
    data = prepare_data(config)
    run_expert(config, data, 0, lambda report: None)
    store = TrajectoryStore.open(config.store_uri, expect=expectation(config, data.train))
    flat = expert_network(config, data.train, 0)
    assert mixes_images(flat.model) and config.model.norm == "instance"
    end = store.segment(0, "representation", 2, 2).start_backbone
    assert len(end) == flat.layout.backbone_size


DISTILL = {"ipc": 2, "engine": "rldd"}


def test_a_second_gradient_and_a_foreign_norm_are_refused(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    stage = {"epochs": 6, "criterion": "debiased", "sharpness": "sam"}
    with pytest.raises(UserError, match="criterion debiased excludes sharpness sam"):
        tiny(tmp_path, experts={"representation": stage})
    with pytest.raises(UserError, match=r"experts.norm is batch and model.norm instance"):
        tiny(tmp_path, experts={"count": 1, "norm": "batch"}, distill={**DISTILL, "engine": "tgdd"})
    with pytest.raises(
        UserError, match=r"but experts have norm instance; set experts.norm to batch"
    ):
        tiny(tmp_path, distill=DISTILL)
