import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import ltdd_ray.evaluate.train
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.config import EvaluateConfig, ModelConfig, RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.evaluate.results import architectures_table, results_table, start_warning, summarise
from ltdd_ray.evaluate.sets import TrainingSet, random_selection, training_set
from ltdd_ray.evaluate.train import NetworkResult, measure, train_network
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.networks import build_network

COUNTS = (9, 4, 2)
OWN = "convnet3-w8-instance"


@pytest.fixture
def train() -> LongTailedDataset:
    labels = np.repeat(np.arange(3), COUNTS)
    return LongTailedDataset(np.zeros((15, 1, 8, 8), np.uint8), labels, ("cat", "dog", "owl"))


class Constant(nn.Module):
    """Predicts class 0 for dark images and class 1 for bright ones."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean((1, 2, 3))
        return torch.stack([-bright, bright, torch.full_like(bright, -9)], 1)


def test_accuracy_counts_every_class_alike() -> None:
    images = torch.tensor([-1.0, -1, -1, 1, 1, 1, 1]).view(-1, 1, 1, 1)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    measured = measure(Constant(), images, labels)
    assert measured.per_class == (0.75, 1.0, 0.0)
    assert measured.accuracy == pytest.approx(1.75 / 3)
    sure, unsure, never = torch.tensor([1.0, -1, -9]).softmax(0).tolist()
    assert measured.confidence == pytest.approx((sure, sure, sure))
    assert measured.true_confidence == pytest.approx(((3 * sure + unsure) / 4, sure, never))


def test_random_selection_is_balanced_and_repeats_only_where_it_must(
    train: LongTailedDataset,
) -> None:
    index = random_selection(train, [4] * 3, seed=0, network=0)
    assert train.labels[index].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(set(index[:4])) == 4 and set(index[4:8]) == {9, 10, 11, 12}
    assert sorted(index[8:]) == [13, 13, 14, 14]
    assert index == random_selection(train, [4] * 3, seed=0, network=0)
    assert index != random_selection(train, [4] * 3, seed=0, network=1)


def test_random_selection_follows_an_unequal_budget(train: LongTailedDataset) -> None:
    assert (
        train.labels[random_selection(train, [5, 1, 3], seed=0, network=0)].tolist()
        == [0] * 5 + [1] + [2] * 3
    )


def test_the_8_bit_set_is_what_an_export_holds(
    tmp_path: Path, tiny: Callable[..., RunConfig]
) -> None:
    config = tiny(tmp_path)
    data = prepare_data(config)
    images = data.normalisation.apply(
        torch.rand(4, *data.train.image_shape, generator=torch.Generator().manual_seed(0)) * 300
        - 20
    )
    labels, classes = torch.full((4, 10), 0.1), torch.arange(4)
    distilled = DistilledSet(
        images, labels, classes, 0.03, data.normalisation, data.train.class_names, "flip"
    )
    distilled.save(config.folder / "distilled")
    exact, rounded = (
        training_set(config, data, name, 0) for name in ("distilled", "distilled_8bit")
    )
    assert (
        torch.equal(exact.images, images) and rounded.learning_rate == exact.learning_rate == 0.03
    )
    assert torch.equal(rounded.images, data.normalisation.apply(distilled.pixels()))
    assert float((rounded.images - images).abs().max()) > 0.01


def test_training_learns_a_separable_set_and_repeats_exactly() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1] * 10)
    images = torch.randn(20, 1, 4, 4, generator=random) + (labels * 4 - 2).view(-1, 1, 1, 1)
    given = TrainingSet(images, torch.eye(3)[labels], 0.1)
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        train_network(
            model, given, EvaluateConfig(epochs=20, batch_size=8), Augmentation("flip_crop"), seed=1
        )
        weights.append(model[1].weight.detach().clone())
        assert measure(model, images, labels).per_class[:2] == (1.0, 1.0)
    assert torch.equal(*weights)


def test_a_convnet_trained_by_hand_is_the_one_autograd_trains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = torch.Generator().manual_seed(0)
    given = TrainingSet(
        torch.randn(12, 3, 8, 8, generator=draw).double(),
        torch.randn(12, 4, generator=draw).softmax(1).double(),
        0.05,
    )
    trained = []
    for by_hand in (True, False):
        monkeypatch.setattr(
            ltdd_ray.evaluate.train, "is_convnet", lambda model, by_hand=by_hand: by_hand
        )
        model = build_network(ModelConfig(width=5, depth=2), (3, 8, 8), 4, seed=0).double()
        train_network(
            model,
            given,
            EvaluateConfig(epochs=4, batch_size=5, momentum=0.9),
            Augmentation("flip_scale"),
            seed=1,
        )
        trained.append({name: p.detach() for name, p in model.named_parameters()})
    start = dict(
        build_network(ModelConfig(width=5, depth=2), (3, 8, 8), 4, seed=0)
        .double()
        .named_parameters()
    )
    for name, by_hand in trained[0].items():
        assert torch.allclose(by_hand, trained[1][name], rtol=1e-9, atol=1e-12)
        assert not torch.equal(by_hand, start[name])


def test_the_squared_error_changes_networks_on_soft_labels_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    images, soft = (
        torch.randn(12, 3, 8, 8, generator=draw),
        torch.randn(12, 4, generator=draw).softmax(1),
    )
    hard, trained = torch.eye(4)[soft.argmax(1)], {}
    for kind, labels in (("soft", soft), ("hard", hard)):
        for mse_weight in (0.0, 0.5):
            model = build_network(ModelConfig(width=4, depth=2), (3, 8, 8), 4, seed=0)
            settings = EvaluateConfig(epochs=2, mse_weight=mse_weight)
            train_network(model, TrainingSet(images, labels, 0.05), settings, Augmentation(""), 1)
            trained[kind, mse_weight] = model.classifier.weight.detach()
    assert torch.equal(trained["hard", 0.0], trained["hard", 0.5])
    assert not torch.allclose(trained["soft", 0.0], trained["soft", 0.5], atol=1e-4)
    with pytest.raises(ValueError, match=r"ce_weight and evaluate.mse_weight are both 0"):
        EvaluateConfig(ce_weight=0.0)


def test_a_network_that_diverges_says_so() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    given = TrainingSet(torch.full((4, 1, 4, 4), 1e20), torch.eye(3)[[0, 1, 2, 0]], 1e20)
    with pytest.raises(NonFiniteLossError, match=r"epoch 1: .* at rate 1e\+20; lower evaluate\.lr"):
        train_network(model, given, EvaluateConfig(epochs=3), Augmentation(""), seed=0)


def config_of(**evaluate: Any) -> RunConfig:
    tree = {
        "name": "r",
        "data": {"source": "digits"},
        "distill": {"ipc": 1},
        "model": {"width": 8},
        "evaluate": evaluate,
    }
    return RunConfig.model_validate(tree)


def result(
    set_name: str,
    network: int,
    per_class: tuple[float, ...],
    model: str = OWN,
    tau: float | None = None,
) -> NetworkResult:
    return NetworkResult(
        accuracy=sum(per_class) / 3,
        accuracy_over_images=per_class[0],
        per_class=per_class,
        confidence=(0.9, 0.8, 0.5),
        true_confidence=(0.8, 0.6, 0.1 * network),
        set_name=set_name,
        model=model,
        network=network,
        images=6,
        labels="hard" if set_name == "random" else "soft",
        classifier_norms=(1.0 + network, 2.0, 3.0),
        tau=tau,
        seconds=2.5,
    )


@pytest.fixture
def results(train: LongTailedDataset) -> dict[str, Any]:
    config = config_of(
        networks=2,
        sets=["distilled", "random", "distilled_calibrated"],
        models=[{"name": "resnet18", "norm": "batch"}],
    )
    networks = [
        result("distilled", 0, (0.9, 0.4, 0.2)),
        result("distilled", 1, (0.9, 0.6, 0.6)),
        result("random", 0, (0.5, 0.3, 0.1)),
        result("random", 1, (0.5, 0.3, 0.1)),
        result("distilled_calibrated", 0, (0.3, 0.3, 0.3), tau=0.25),
        result("distilled_calibrated", 1, (0.3, 0.3, 0.3), tau=0.25),
        result("distilled", 0, (0.9, 0.9, 0.9), model="resnet18-batch"),
        result("distilled", 1, (0.7, 0.7, 0.7), model="resnet18-batch"),
    ]
    return summarise(config, train, networks, {"timings": {"evaluate": 2.0}})


def test_results_are_means_and_sample_deviations(results: dict[str, Any]) -> None:
    assert results["accuracy"]["mean"] == pytest.approx(0.6)
    assert results["accuracy"]["std"] == pytest.approx(0.1 * 2**0.5)
    assert results["per_class"]["mean"] == pytest.approx([0.9, 0.5, 0.4])
    assert {name: group["mean"] for name, group in results["groups"].items()} == pytest.approx(
        {"many": 0.9, "medium": 0.5, "few": 0.4}
    )
    assert results["random_baseline"]["accuracy"]["std"] == 0
    assert results["ipc"] == 1 and results["images_per_class"] == [1, 1, 1]
    assert results["imbalance_factor"] == 4.5 and results["timings"] == {"evaluate": 2.0}


def test_every_set_says_what_it_is_and_how_sure_its_networks_are(results: dict[str, Any]) -> None:
    sets = results["sets"]
    assert [(one["title"], one["labels"]) for one in sets.values()] == [
        ("LTDD", "soft"),
        ("Random selection", "hard"),
        ("LTDD, calibrated", "soft"),
    ]
    assert {name: one.get("tau") for name, one in sets.items()} == {
        "distilled": None,
        "random": None,
        "distilled_calibrated": 0.25,
    }
    assert results["teacher_queried"] is False
    assert sets["distilled"]["confidence"]["predicted_class"]["few"] == {"mean": 0.5, "std": 0.0}
    few = sets["distilled"]["confidence"]["true_class"]["few"]
    assert (few["mean"], few["std"]) == pytest.approx((0.05, 0.1 / 2**0.5))
    assert sets["distilled"]["classifier_norms"] == [1.5, 2.0, 3.0]


def test_the_first_set_is_the_runs_result(train: LongTailedDataset) -> None:
    networks = [result("distilled", 0, (0.9, 0.4, 0.2)), result("random", 0, (0.5, 0.3, 0.1))]
    results = summarise(config_of(networks=1, sets=["random", "distilled"]), train, networks, {})
    assert results["set"] == "random" and results["title"] == "Random selection"
    assert results["accuracy"]["std"] is None and results["groups"]["few"]["std"] is None
    assert results["per_class"]["std"] == [None] * 3
    assert (
        results["accuracy"]["mean"]
        == results["random_baseline"]["accuracy"]["mean"]
        == pytest.approx(0.3)
    )
    assert "cross_architecture" not in results


def test_other_architectures_stand_beside_the_runs_own(results: dict[str, Any]) -> None:
    table = {label: one["accuracy"]["mean"] for label, one in results["cross_architecture"].items()}
    assert table == pytest.approx({OWN: 0.6, "resnet18-batch": 0.8})
    assert set(results["cross_architecture"]["resnet18-batch"]) == {
        "accuracy",
        "accuracy_over_images",
        "per_class",
        "groups",
    }
    shown = architectures_table(results)
    assert [list(column.cells)[1] for column in shown.columns] == ["resnet18-batch"] + [
        "80.0 ± 14.1"
    ] * 5


def test_a_set_below_its_own_start_is_named_with_what_to_try(results: dict[str, Any]) -> None:
    """The result table and the report take the sentence; above the start there is none."""
    assert start_warning(results) is None  # no initial set was evaluated
    start = {
        **results["sets"]["distilled"],
        "accuracy": {"mean": 0.622, "std": None, "runs": [0.622]},
    }
    below = {**results, "sets": {**results["sets"], "initial": start}}
    warning = start_warning(below)
    assert warning is not None and warning.startswith(
        "LTDD ends 2.2 points below its own start; try a lower distill.lr_label or lr_image"
    )
    assert str(results_table(below).caption).endswith(warning)
    other, older = (str(start_warning({**below, "engine": engine})) for engine in ("dm", None))
    assert "try a lower distill.distribution.lr_image, or distill.keep: best" in other
    assert "lr_label" not in other and "segments_per_update" not in other
    assert older.endswith("try distill.keep: best together with distill.checks.every")
    start["accuracy"]["mean"] = 0.6
    assert start_warning(below) is None


def test_a_terminal_of_80_columns_shows_every_number_whole(results: dict[str, Any]) -> None:
    """Accuracy over images is left out where it reads as balanced accuracy does."""
    for one in results["sets"].values():
        one["accuracy_over_images"] = one["accuracy"]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(results_table(results))
    shown = captured.get()
    assert "over" not in shown and "…" not in shown
    (row,) = (line for line in shown.splitlines() if line.startswith(" LTDD "))
    assert row.split() == [
        *("LTDD", "soft", "60.0", "±", "14.1", "90.0", "50.0", "40.0", "1.6", "37.3"),
    ]


def test_80_columns_hold_the_accuracy_over_images_and_long_names(results: dict[str, Any]) -> None:
    for one in results["sets"].values():
        one["title"] = f"TGDD_MOSAIC, {one['title']}, 8-bit images"
        one["bytes"] = 38_123_600
        one["accuracy_over_images"] = {"mean": 0.123, "std": 0.2, "runs": []}
    console = Console(width=80)
    with console.capture() as captured:
        console.print(results_table(results))
    shown = captured.get()
    rows = [line.split() for line in shown.splitlines() if line.startswith(" TGDD_MOSAIC, ")]
    assert rows[0] == [
        *("TGDD_MOSAIC,", "soft", "60.0", "±", "14.1", "90.0", "50.0", "40.0", "12.3"),
        *("38,123.6", "0.00157"),
    ]
    assert len(rows) == len(results["sets"]) and "calibrated," in shown.split()


def test_the_table_shows_labels_and_groups(results: dict[str, Any]) -> None:
    table = results_table(results)
    assert [column.header for column in table.columns] == [
        "",
        "labels",
        "all",
        "many",
        "medium",
        "few",
        "over\nimages",
        "kB with\nlabels",
        "%\nper kB",
    ]
    assert list(table.columns[1].cells) == ["soft", "hard", "soft"]
    assert table.caption == "LTDD, calibrated: logits adjusted with tau 0.25"
    assert str(table.title) == "r: balanced accuracy in % on the test images, IPC 1"
    assert str(results_table({**results, "pictures_per_image": 4}).title).endswith(
        "IPC 1 of 4 pictures each, a label for each picture"
    )
    assert list(table.columns[2].cells) == ["60.0 ± 14.1", "30.0 ± 0.0", "30.0 ± 0.0"]
    # Six images of 64 pixels, in float32 with three shares each, or in bytes with a class each.
    assert list(table.columns[7].cells) == ["1.6", "0.4", "1.6"]
    assert list(table.columns[8].cells) == ["37.3", "76.9", "18.7"]


def test_a_result_survives_json() -> None:
    once = result("random", 3, (0.1, 0.4, 0.2), tau=0.5)
    assert NetworkResult.from_json(json.loads(json.dumps(once.to_json()))) == once
