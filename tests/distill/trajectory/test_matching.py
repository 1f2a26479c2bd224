"""The hypergradient against float64 differences, a hand-written unroll and the first-order formula.

M = 8 images of 3 x 8 x 8, C = 4 classes, T = 3 steps unless a test says otherwise.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.functional import avg_pool2d, conv2d, group_norm, linear, relu

from ltdd_ray.config import ModelConfig
from ltdd_ray.distill.trajectory.matching import Match, match
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import DamLoss, soft_cross_entropy
from ltdd_ray.nn.networks import build_network

DSA = Augmentation("color_crop_cutout_flip_scale_rotate")
PRIOR = torch.tensor([0.6, 0.25, 0.1, 0.05], dtype=torch.float64)
SCOPES = ["backbone", "classifier", "all"]


def network(**settings) -> FlatModel:
    config = ModelConfig(**{"width": 5, "depth": 2} | settings)
    return FlatModel(build_network(config, (3, 8, 8), 4, seed=1).double())


@pytest.fixture
def flat() -> FlatModel:
    return network()


def problem(flat: FlatModel) -> dict:
    random = torch.Generator().manual_seed(5)
    start = flat.initial()
    return {
        "start": start,
        "target": start + 0.1 * torch.randn(start.shape, generator=random, dtype=torch.float64),
        "images": torch.randn(8, 3, 8, 8, generator=random, dtype=torch.float64),
        "labels": torch.randn(8, 4, generator=random, dtype=torch.float64),
        "lr": torch.tensor(0.2, dtype=torch.float64),
    }


def run(flat: FlatModel | nn.Module, given: dict, **settings) -> Match:
    usual = {
        "steps": 3,
        "batch_size": 8,
        "scope": "all",
        "loss": soft_cross_entropy,
        "augment": DSA,
        "seed": 3,
    }
    return match(flat, *given.values(), **usual | settings)


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm())


def grads(m: Match) -> tuple[Tensor, Tensor, Tensor]:
    return m.images_grad, m.labels_grad, m.lr_grad


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", ["images", "labels", "lr"])
def test_exact_agrees_with_central_differences(flat: FlatModel, scope: str, name: str) -> None:
    given = problem(flat)
    loss = (
        DamLoss.from_prior(PRIOR, 0.7, "frequency") if scope == "backbone" else soft_cross_entropy
    )
    settings = {"scope": scope, "loss": loss, "batch_size": 6, "steps": 6}
    found = dict(zip(("images", "labels", "lr"), grads(run(flat, given, **settings))))[name]
    direction = torch.randn(
        given[name].shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    eps = 1e-6 / float(direction.norm())
    ahead, behind = (
        run(flat, given | {name: given[name] + sign * eps * direction}, **settings).loss
        for sign in (1, -1)
    )
    assert float((found * direction).sum()) == pytest.approx(
        float((ahead - behind) / (2 * eps)), rel=1e-5
    )


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("batch_size", [8, 3])
@pytest.mark.parametrize("steps", [1, 12])
def test_exact_equals_unrolled(flat: FlatModel, scope: str, batch_size: int, steps: int) -> None:
    given = problem(flat)
    exact, unrolled = (
        run(flat, given, scope=scope, batch_size=batch_size, steps=steps, hypergradient=mode)
        for mode in ("exact", "unrolled")
    )
    assert difference(exact.loss, unrolled.loss) < 1e-12
    for ours, oracle in zip(grads(exact), grads(unrolled)):
        assert difference(ours, oracle) < 1e-9


@pytest.mark.parametrize("class_weights", ["none", "frequency", "mean_one"])
@pytest.mark.parametrize("operation", DSA.operations)
def test_every_loss_and_augmentation_branch(flat: FlatModel, class_weights, operation: str) -> None:
    given, loss = problem(flat), DamLoss.from_prior(PRIOR, 1.0, class_weights)
    settings = {"loss": loss, "augment": Augmentation(operation), "scope": "backbone"}
    exact, unrolled = (
        run(flat, given, **settings, hypergradient=mode) for mode in ("exact", "unrolled")
    )
    assert max(difference(a, b) for a, b in zip(grads(exact), grads(unrolled))) < 1e-9


def by_hand(theta: Tensor, x: Tensor) -> Tensor:
    """ConvNet-2 of width 5 on 8 x 8 colour images, spelled out on the flat vector."""
    w1, b1, s1, t1, w2, b2, s2, t2, wc, bc = theta.split([135, 5, 5, 5, 225, 5, 5, 5, 80, 4])
    h = avg_pool2d(relu(group_norm(conv2d(x, w1.view(5, 3, 3, 3), b1, padding=1), 5, s1, t1)), 2)
    h = avg_pool2d(relu(group_norm(conv2d(h, w2.view(5, 5, 3, 3), b2, padding=1), 5, s2, t2)), 2)
    return linear(h.flatten(1), wc.view(4, 20), bc)


def test_exact_equals_a_hand_written_unroll(flat: FlatModel) -> None:
    given = problem(flat)
    start, target, images, labels, lr = given.values()
    x, y, a = (tensor.clone().requires_grad_() for tensor in (images, labels, lr))
    theta = start.clone().requires_grad_()
    for _ in range(3):
        inner = -(y.softmax(1) * by_hand(theta, x).log_softmax(1)).sum() / 8
        theta = theta - a * grad(inner, theta, create_graph=True)[0]
    outer = ((theta - target)[:390] ** 2).sum() / ((start - target)[:390] ** 2).sum()
    found = run(flat, given, scope="backbone", augment=Augmentation(""))
    assert difference(found.loss, outer) < 1e-12
    for ours, oracle in zip(grads(found), grad(outer, (x, y, a))):
        assert difference(ours, oracle) < 1e-9


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("mode", ["exact", "unrolled"])
def test_distances_are_those_behind_the_loss(flat: FlatModel, scope: str, mode: str) -> None:
    given, backbone = problem(flat), flat.layout.backbone_size
    part = {"backbone": slice(backbone), "classifier": slice(backbone, None), "all": slice(None)}[
        scope
    ]
    found = run(flat, given, scope=scope, steps=1, hypergradient=mode, augment=Augmentation(""))
    theta = given["start"].clone().requires_grad_()
    (step,) = grad(
        soft_cross_entropy(flat.logits(theta, given["images"]), given["labels"].softmax(-1)), theta
    )
    distances = {name: float(value) for name, value in found.distances.items()}
    assert distances["student"] == pytest.approx(float((given["lr"] * step)[part].norm()))
    assert distances["expert"] == pytest.approx(
        float((given["target"] - given["start"])[part].norm())
    )
    assert (distances["left"] / distances["expert"]) ** 2 == pytest.approx(float(found.loss))


def test_first_order_is_the_published_formula(flat: FlatModel) -> None:
    """dl/dx = -(2 alpha / scale) sum_t d<theta_T - theta*, g_t>/dx, theta_t constant (TESLA)."""
    given = problem(flat)
    start, target, images, labels, lr = given.values()
    x, y = (tensor.clone().requires_grad_() for tensor in (images, labels))
    theta, inner = start.clone(), []
    for _ in range(3):
        theta = theta.detach().requires_grad_()
        value = -(y.softmax(1) * by_hand(theta, x).log_softmax(1)).sum() / 8
        inner.append(grad(value, theta, create_graph=True)[0])
        theta = theta - lr * inner[-1]
    pull = 2 * (theta - target).detach() / ((start - target) ** 2).sum()
    oracle = [torch.zeros_like(x), torch.zeros_like(y)]
    for g in inner:
        for total, part in zip(oracle, grad(g @ pull, (x, y), retain_graph=True)):
            total -= lr * part
    found = run(flat, given, augment=Augmentation(""), hypergradient="first_order")
    assert difference(found.images_grad, oracle[0]) < 1e-9
    assert difference(found.labels_grad, oracle[1]) < 1e-9
    assert difference(found.lr_grad, -sum(g @ pull for g in inner).detach()) < 1e-9
    assert (
        difference(found.images_grad, run(flat, given, augment=Augmentation("")).images_grad) > 1e-3
    )


def test_classifier_scope_moves_the_classifier_alone(flat: FlatModel) -> None:
    given = problem(flat)
    start, target, images, labels, lr = given.values()
    x, y, a = (tensor.clone().requires_grad_() for tensor in (images, labels, lr))
    head = start[390:].clone().requires_grad_()
    for _ in range(3):
        inner = (
            -(y.softmax(1) * by_hand(torch.cat([start[:390], head]), x).log_softmax(1)).sum() / 8
        )
        head = head - a * grad(inner, head, create_graph=True)[0]
    outer = ((head - target[390:]) ** 2).sum() / ((start - target)[390:] ** 2).sum()
    found = run(flat, given, scope="classifier", augment=Augmentation(""))
    for ours, oracle in zip(grads(found), grad(outer, (x, y, a))):
        assert difference(ours, oracle) < 1e-9


class Own(nn.Module):
    """A user's module: smooth, with parameters after the classifier in module order."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
        self.embed = nn.Linear(192, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.embed(images.flatten(1)).tanh())


@pytest.mark.parametrize("scope", SCOPES)
def test_any_module_with_a_classifier(scope: str) -> None:
    torch.manual_seed(0)
    own = Own().double()
    layout = FlatModel(own).layout
    assert [p.name for p in layout.parameters][:2] == ["embed.weight", "embed.bias"]
    assert layout.backbone_size == 192 * 6 + 6
    exact, unrolled = (
        run(own, problem(FlatModel(own)), scope=scope, hypergradient=mode)
        for mode in ("exact", "unrolled")
    )
    assert max(difference(a, b) for a, b in zip(grads(exact), grads(unrolled))) < 1e-9


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18"])
def test_other_architectures(name: str) -> None:
    flat = FlatModel(build_network(ModelConfig(name=name), (3, 32, 32), 4, seed=0).double())
    start = flat.initial()
    random = torch.Generator().manual_seed(0)
    target = start + 0.01 * torch.randn(start.shape, generator=random, dtype=torch.float64)
    images = torch.randn(2, 3, 32, 32, generator=random, dtype=torch.float64)
    labels = torch.randn(2, 4, generator=random, dtype=torch.float64)
    given = {"start": start, "target": target, "images": images, "labels": labels, "lr": 0.01}
    exact, unrolled = (
        run(flat, given, steps=2, hypergradient=mode) for mode in ("exact", "unrolled")
    )
    assert max(difference(a, b) for a, b in zip(grads(exact), grads(unrolled))) < 1e-9


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("scope", SCOPES)
def test_images_of_any_number_of_channels(channels: int, scope: str) -> None:
    flat = FlatModel(
        build_network(ModelConfig(width=5, depth=2), (channels, 8, 8), 4, seed=1).double()
    )
    images = torch.randn(
        8, channels, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    given = problem(flat) | {"images": images}
    exact, unrolled = (
        run(flat, given, scope=scope, hypergradient=mode) for mode in ("exact", "unrolled")
    )
    assert max(difference(a, b) for a, b in zip(grads(exact), grads(unrolled))) < 1e-9


def test_batch_norm_runs_on_batch_statistics_and_leaves_the_module_alone() -> None:
    flat = network(norm="batch")
    before = {name: buffer.clone() for name, buffer in flat.model.named_buffers()}
    exact, unrolled = (
        run(flat, problem(flat), hypergradient=mode) for mode in ("exact", "unrolled")
    )
    assert max(difference(a, b) for a, b in zip(grads(exact), grads(unrolled))) < 1e-9
    assert all(torch.equal(before[name], buffer) for name, buffer in flat.model.named_buffers())


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("mode", ["exact", "first_order"])
@pytest.mark.parametrize(
    "settings", [{}, {"norm": "none"}], ids=["by hand", "differentiated twice"]
)
def test_a_split_batch_changes_nothing(settings: dict, scope: str, mode: str) -> None:
    flat = network(**settings)
    given = problem(flat)
    whole, split = (
        run(flat, given, scope=scope, hypergradient=mode, micro_batch=size) for size in (None, 3)
    )
    assert max(difference(a, b) for a, b in zip(grads(split), grads(whole))) < 1e-12


def test_a_batch_that_cannot_be_split_is_refused(flat: FlatModel) -> None:
    with pytest.raises(ValueError, match="micro_batch=3 needs"):
        run(flat, problem(flat), hypergradient="unrolled", micro_batch=3)
    batch_norm = network(norm="batch")
    with pytest.raises(ValueError, match="without batch norm"):
        run(batch_norm, problem(batch_norm), micro_batch=3)


def test_a_tape_that_does_not_hold_every_step_changes_nothing(
    flat: FlatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, settings = problem(flat), {"scope": "classifier", "steps": 6}
    whole = run(flat, given, **settings)
    monkeypatch.setattr("ltdd_ray.nn.frozen.TAPE_BYTES", 3 * 8 * 8 * (5 * 4 * 4 + 5 * 2 * 2 + 20))
    for ours, oracle in zip(grads(run(flat, given, **settings)), grads(whole)):
        assert torch.equal(ours, oracle)


def test_forty_steps(flat: FlatModel) -> None:
    given = problem(flat) | {"lr": torch.tensor(0.05, dtype=torch.float64)}
    exact, unrolled = (
        run(flat, given, steps=40, scope="backbone", hypergradient=mode)
        for mode in ("exact", "unrolled")
    )
    assert max(difference(a, b) for a, b in zip(grads(exact), grads(unrolled))) < 1e-9


def test_equal_seeds_give_equal_results_and_others_do_not(flat: FlatModel) -> None:
    given = problem(flat)
    one, two, other = (run(flat, given, batch_size=3, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.images_grad, two.images_grad)
    assert not torch.equal(one.images_grad, other.images_grad)


def test_minibatches_use_every_image_before_repeating(flat: FlatModel) -> None:
    """With T B = M every image has been used once, so every image has a gradient."""
    found = run(flat, problem(flat), batch_size=4, steps=2, augment=Augmentation(""))
    assert bool((found.images_grad.flatten(1).norm(dim=1) > 0).all())


def test_a_segment_without_a_distance_is_refused(flat: FlatModel) -> None:
    given = problem(flat)
    with pytest.raises(ValueError, match="equal on the matched part"):
        run(flat, given | {"target": given["start"]})
    with pytest.raises(ValueError, match="vectors of 474"):
        run(flat, given | {"target": given["start"][:-1]})


def test_a_module_that_does_more_after_its_classifier_is_refused() -> None:
    class Scaled(Own):
        def forward(self, images: Tensor) -> Tensor:
            return 2 * super().forward(images)

    scaled = Scaled().double()
    with pytest.raises(TypeError, match="must return the output of its `classifier`"):
        run(scaled, problem(FlatModel(scaled)), scope="classifier")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("mode", ["exact", "first_order", "unrolled"])
@pytest.mark.parametrize("settings", [{}, {"norm": "none"}], ids=["by hand", "by autograd"])
def test_gradients_may_be_off_around_it(settings: dict, scope: str, mode: str) -> None:
    flat = network(**settings)
    given = problem(flat)
    expected = run(flat, given, scope=scope, hypergradient=mode)
    with torch.no_grad():
        found = run(flat, given, scope=scope, hypergradient=mode)
    assert all(torch.equal(a, b) for a, b in zip(grads(found), grads(expected), strict=True))


@pytest.mark.parametrize("mode", ["exact", "unrolled"])
@pytest.mark.parametrize("settings", [{}, {"norm": "none"}], ids=["by hand", "by autograd"])
def test_it_works_in_inference_mode(settings: dict, mode: str) -> None:
    usual = run(network(**settings), problem(network(**settings)), hypergradient=mode)
    with torch.inference_mode():  # the network, too, is made of tensors that autograd refuses
        flat = network(**settings)
        inside = run(flat, problem(flat), hypergradient=mode)
    assert torch.equal(inside.loss, usual.loss)
    assert all(map(torch.equal, grads(inside), grads(usual)))
