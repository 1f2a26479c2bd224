"""RLDD on digits of 8 x 8 pixels, with an observer and a teacher of a few epochs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.distribution import rldd
from ltdd_ray.distill.distribution.rldd import UnilevelRecovery
from ltdd_ray.distill.distribution.runner import run_distribution
from ltdd_ray.distill.distribution.statistics import forward, mean_and_variance
from ltdd_ray.experts.expert import EpochReport, run_expert
from ltdd_ray.experts.plan import expert_network
from ltdd_ray.nn.flat import FlatModel

Tiny = Callable[..., RunConfig]
STAGE = {"epochs": 2, "batch_size": 64, "lr": 0.1, "sharpness": "none", "criterion": "debiased"}
CPU = torch.device("cpu")


def config_of(tiny: Tiny, folder: Path, store: Path, **changes: Any) -> RunConfig:
    """``changes`` are settings of ``distill``, of its ``distribution`` or of ``recovery``."""
    recovery = {
        key: changes.pop(key)
        for key in ("recalibrate", "crops", "statistics_weight", "class_statistics_weight")
        if key in changes
    }
    distribution: dict[str, Any] = {"updates": 6, "lr_image": 0.05, "class_weight": 0.5}
    distribution |= {key: changes.pop(key) for key in distribution if key in changes}
    distill = {"ipc": 2, "engine": "rldd", "label_expert": "representation", "checkpoint_every": 2}
    classifier = {"epochs": 1, "batch_size": 32}
    return tiny(
        folder,
        experts={
            "count": changes.pop("count", 2),
            "norm": "batch",
            "store": str(store),
            "representation": STAGE,
            "classifier": classifier,
        },
        distill={**distill, **changes, "distribution": {**distribution, "recovery": recovery}},
    )


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    folder = tmp_path_factory.mktemp("rldd")
    config = config_of(tiny, folder, folder / "experts")
    data = prepare_data(config)
    for expert in range(2):
        run_expert(config, data, expert, lambda report: None)
    return folder / "experts"


def method_of(config: RunConfig) -> tuple[UnilevelRecovery, PreparedData]:
    data = prepare_data(config)
    return UnilevelRecovery(config, data, CPU), data


def run(config: RunConfig, on_report: Callable[[Any], None] = lambda report: None) -> DistilledSet:
    return run_distribution(config, prepare_data(config), on_report)


def test_the_loss_is_statistics_of_the_observer_and_its_entropy(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    config = config_of(tiny, tmp_path, experts, statistics_weight=0.3, class_statistics_weight=0.7)
    method, _ = method_of(config)
    loss, terms = method.update_loss(method.optimiser(), 4)
    images = method.images.detach()
    layers = forward(method.observer, method.real)[1]
    mine = forward(method.observer, images)[1]
    expected = {"together": 0.0, "by class": 0.0}
    for layer, true in layers.items():
        by_class = [
            [each[of == k].mean(0) for k in range(10)]
            for each, of in ((mine[layer], method.classes), (true, method.labels))
        ]
        for k in range(10):
            for a, b in zip(*(mean_and_variance(each[k]) for each in by_class)):
                expected["by class"] += float((a - b).norm()) / 10
        pair = (mean_and_variance(torch.stack(each).mean(0)) for each in by_class)
        expected["together"] += sum(float((a - b).norm()) for a, b in zip(*pair))
    seen = method.augment(images, generator(config.seed, "distribution-augment", 4))
    entropy = float(cross_entropy(method.observer(seen), method.classes))
    total = 0.3 * expected["together"] + 0.7 * expected["by class"] + 0.5 * entropy
    assert float(loss.detach()) / 10 == pytest.approx(total, rel=1e-4)
    terms = {name: term.detach() for name, term in terms.items()}
    assert float(terms["loss/distance"]) / 10 == pytest.approx(expected["together"], rel=1e-4)
    assert float(terms["loss/class"]) / 10 == pytest.approx(entropy, rel=1e-4)


def test_the_slope_of_the_loss_is_that_of_finite_differences(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    method, _ = method_of(config_of(tiny, tmp_path, experts))
    method.observer.double()
    method.images.data = method.images.data.double()
    loss = method.update_loss(method.optimiser(), 0)[0]
    (slope,) = torch.autograd.grad(loss, method.images)
    way = torch.randn(slope.shape, dtype=slope.dtype, generator=torch.Generator().manual_seed(0))
    values, start = [], method.images.data
    for h in (1e-6, -1e-6):
        method.images.data = start + h * way
        values.append(float(method.update_loss(method.optimiser(), 0)[0].detach()))
    assert float((slope * way).sum()) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_updates_bring_the_statistics_together(tiny: Tiny, tmp_path: Path, experts: Path) -> None:
    heard: list[Any] = []
    weights = {"statistics_weight": 1.0, "class_statistics_weight": 1.0}
    run(config_of(tiny, tmp_path, experts, updates=40, **weights), heard.append)
    first, last = (heard[at].metrics for at in (0, -1))
    for name in ("loss/total", "loss/distance", "loss/class_distance"):
        assert last[name] < 0.8 * first[name], name


def test_another_network_than_the_observer_labels_the_pictures_at_the_end(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    config = config_of(tiny, tmp_path / "two", experts, pictures_per_side=2, bits=8)
    found, (method, _) = run(config), method_of(config)
    observer, teacher = method._networks
    assert method.observer is observer and method.teachers == [teacher]
    with torch.no_grad():
        torch.testing.assert_close(found.soft_labels, teacher(found.pictures).softmax(1))
        assert not torch.allclose(found.soft_labels, observer(found.pictures).softmax(1))
    assert len(found.soft_labels) == 80 and len(found.images) == 20
    alone, _ = method_of(config_of(tiny, tmp_path / "one", experts, count=1))
    assert alone.teachers == [alone.observer]


class Stop(Exception):
    pass


@pytest.mark.parametrize("step", ["training", "recalibration", "start", "recovery", "labels"])
def test_a_run_that_was_killed_at_any_step_ends_with_the_same_bytes(
    tiny: Tiny, tmp_path: Path, experts: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def distil(config: RunConfig, report: Callable[[Any], None] = lambda report: None) -> bytes:
        data = prepare_data(config)
        for expert in range(2):
            run_expert(config, data, expert, report)  # trains nothing that is there
        return run(config, report).save(config.folder / "distilled").read_bytes()

    expected = distil(config_of(tiny, tmp_path / "whole", experts))
    store = tmp_path / "experts"
    shutil.copytree(experts, store)
    broken = config_of(tiny, tmp_path / "broken", store)
    if step == "training":
        shutil.rmtree(store)

    def strike(report: Any) -> None:
        at = isinstance(report, EpochReport) and (report.expert, report.epoch) == (1, 2)
        if (step == "training" and at) or (
            step == "recovery" and getattr(report, "update", 0) == 5
        ):
            raise Stop

    def fail(*arguments: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        if step == "recalibration":
            patch.setattr(rldd, "recalibrate", fail)
        if step == "start":
            patch.setattr(rldd, "choose_in_rounds", fail)
        if step == "labels":  # of the last set; the initial one has been labelled before
            labels, calls = UnilevelRecovery.soft_labels, []
            patch.setattr(
                UnilevelRecovery,
                "soft_labels",
                lambda method: labels(method) if not calls.append(0) and len(calls) < 2 else fail(),
            )
        distil(broken, strike)
    heard: list[Any] = []
    assert distil(broken, heard.append) == expected
    updates = [report.update for report in heard if hasattr(report, "update")]
    assert updates == {"recovery": [5, 6], "labels": []}.get(step, [1, 2, 3, 4, 5, 6])
    assert any(isinstance(report, EpochReport) for report in heard) == (step == "training")


def test_without_recalibration_images_weigh_alike(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    means = {}
    for recalibrate in (True, False):
        config = config_of(tiny, tmp_path / str(recalibrate), experts, recalibrate=recalibrate)
        method, _ = method_of(config)
        (first, seen), *_ = forward(method.observer, method.real)[1].items()
        balanced = torch.stack([seen[method.labels == k].mean(0) for k in range(10)]).mean(0)
        expected = balanced if recalibrate else seen.mean(0)
        means[recalibrate] = mean_and_variance(expected)[0]
        torch.testing.assert_close(first.running_mean, means[recalibrate])
    assert not torch.allclose(means[True], means[False], atol=1e-3)


def test_without_crops_images_start_as_random_real_ones(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    def real_ones(method: UnilevelRecovery) -> int:
        apart = method.images.detach().flatten(1)[:, None] - method.real.flatten(1)[None]
        return int((apart.abs().amax(2) == 0).any(1).sum())

    assert real_ones(method_of(config_of(tiny, tmp_path / "a", experts, crops=0))[0]) == 20
    assert real_ones(method_of(config_of(tiny, tmp_path / "b", experts))[0]) == 0


def test_a_start_is_what_the_teacher_knows_best(tiny: Tiny, tmp_path: Path, experts: Path) -> None:
    def entropy(crops: int) -> float:
        method, _ = method_of(config_of(tiny, tmp_path / str(crops), experts, crops=crops))
        with torch.no_grad():
            return float(cross_entropy(method.teachers[0](method.images), method.classes))

    assert entropy(4) < entropy(0) - 0.1


def test_a_class_with_fewer_images_than_its_budget_gives_more_crops_of_each(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    method, data = method_of(config_of(tiny, tmp_path, experts, ipc=15, crops=1))
    smallest = int(data.train.class_counts.min())
    assert smallest < 15
    own = method.images.detach()[method.classes == int(data.train.class_counts.argmin())]
    assert len(own) == 15 and len(own.flatten(1).unique(dim=0)) == 15, "no two are equal"
    said = method.describe_initial(data)
    assert said[-1].endswith(
        f"{smallest} real images for 15 initial ones; {15 - smallest} more crops fill it"
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"statistics_weight": 0.0}, "loss/distance"), ({"class_weight": 0.0}, "loss/class")],
)
def test_a_weight_of_0_takes_its_term_out_of_the_loss(
    tiny: Tiny, tmp_path: Path, experts: Path, changes: dict[str, Any], name: str
) -> None:
    losses = []
    for folder, extra in (("with", {}), ("without", changes)):
        method, _ = method_of(config_of(tiny, tmp_path / folder, experts, **extra))
        with torch.no_grad():
            losses.append(method.update_loss(method.optimiser(), 0))
    (whole, terms), (rest, _) = losses
    weight = 0.1 if name == "loss/distance" else 0.5
    assert float(whole - rest) == pytest.approx(weight * float(terms[name]), rel=1e-3)


def test_steps_four_and_five_can_be_left_out(tiny: Tiny, tmp_path: Path, experts: Path) -> None:
    still = config_of(tiny, tmp_path, experts, updates=0, initial_labels="one_hot")
    found, (method, _) = run(still), method_of(still)
    assert torch.equal(found.images, method.images)
    assert torch.equal(found.soft_labels, torch.eye(10)[found.classes])


def test_a_batch_norm_without_running_statistics_is_refused(
    tiny: Tiny, tmp_path: Path, experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a registered network may have it."""

    def without(*arguments: Any) -> FlatModel:
        flat = expert_network(*arguments)
        flat.model.backbone[1] = torch.nn.BatchNorm2d(4, track_running_stats=False)
        return flat

    monkeypatch.setattr(rldd, "expert_network", without)
    with pytest.raises(UserError, match=r"backbone\.1 keeps no running statistics"):
        method_of(config_of(tiny, tmp_path, experts))


def test_a_network_without_batch_norm_is_refused(
    tiny: Tiny, tmp_path: Path, experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rldd, "recalibrate", lambda *arguments: [])
    with pytest.raises(UserError, match=r"model.name convnet has no batch norm"):
        method_of(config_of(tiny, tmp_path, experts))
