"""TGDD on digits of 8 x 8 pixels, with two short experts in a store of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.distribution.loop import match_distributions
from ltdd_ray.distill.distribution.tgdd import TrajectoryGuidedMatching
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import expectation
from ltdd_ray.store import TrajectoryStore

Tiny = Callable[..., RunConfig]
STAGE = {"epochs": 4, "batch_size": 32, "lr": 0.1, "sharpness": "none"}


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    folder = tmp_path_factory.mktemp("tgdd")
    config = guided(tiny, folder, folder / "experts")
    data = prepare_data(config)
    for expert in range(2):
        run_expert(config, data, expert, lambda report: None)
    return folder / "experts"


def guided(tiny: Tiny, folder: Path, store: Path, **changes) -> RunConfig:
    side = changes.pop("pictures_per_side", 1)
    distribution = {
        "updates": 4,
        "real_batch": 5,
        "lr_image": 0.05,
        "class_weight": 0.5,
        "snapshots": {"min": 1, "max": 3},
        **changes,
    }
    return tiny(
        folder,
        experts={"count": 2, "store": str(store), "representation": STAGE},
        distill={
            "ipc": 2,
            "engine": "tgdd",
            "pictures_per_side": side,
            "checkpoint_every": 2,
            "distribution": distribution,
        },
    )


def method_of(config: RunConfig) -> tuple[TrajectoryGuidedMatching, PreparedData]:
    data = prepare_data(config)
    return TrajectoryGuidedMatching(config, data, torch.device("cpu")), data


def run(config: RunConfig, **resumption) -> DistilledSet:
    nothing = {"on_update": lambda *_: None, "on_initial": lambda *_: None}
    resumption = {"on_checkpoint": lambda *_: None, **resumption}
    return match_distributions(config, prepare_data(config), **nothing, **resumption)


def test_networks_are_snapshots_of_the_experts(tiny: Tiny, tmp_path: Path, experts: Path) -> None:
    config = guided(tiny, tmp_path, experts)
    method, data = method_of(config)
    store = TrajectoryStore.open(str(experts), expect=expectation(config, data.train))
    kept = {
        (expert, epoch): torch.from_numpy(
            store.segment(expert, "representation", epoch, epoch).start_classifier.numpy().copy()
        )
        for expert in range(2)
        for epoch in range(5)
    }
    met = set()
    for update in range(60):
        network = method.network(method.optimiser(), update)
        head = torch.cat([p.detach().flatten() for p in network.classifier.parameters()])
        met |= {key for key, theta in kept.items() if torch.equal(theta, head)}
    assert met == {(expert, epoch) for expert in range(2) for epoch in (1, 2, 3)}


def test_the_loss_is_the_distance_of_means_and_the_classes_entropy(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    method, _ = method_of(guided(tiny, tmp_path, experts))
    network = method.network(method.optimiser(), 0)
    synthetic, classes, real, real_classes = method.batches(0)
    found, _ = method.loss(network, synthetic, classes, real, real_classes, 0)
    expected = torch.zeros(())
    for k in range(10):
        mine, true = (
            network.backbone(synthetic[classes == k]),
            network.backbone(real[real_classes == k]),
        )
        expected = expected + (mine.mean(0) - true.mean(0)).square().sum()
        expected = expected + 0.5 * cross_entropy(network.classifier(mine), classes[classes == k])
    torch.testing.assert_close(found, expected)


def test_the_experts_label_the_pictures_as_they_are_at_the_end(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    """Means of the logits of those experts at their last epoch that predict the class."""
    config = guided(tiny, tmp_path, experts, pictures_per_side=2)
    found = run(config)
    method, data = method_of(config)
    store = TrajectoryStore.open(str(experts), expect=expectation(config, data.train))
    logits = []
    for expert in range(2):
        representation = store.segment(expert, "representation", 4, 4)
        last = store.epochs(expert, "classifier")[-1]
        head = store.segment(expert, "classifier", last, last).start_classifier
        theta = torch.cat([representation.start_backbone, head])
        with torch.no_grad():
            logits.append(method._flat.logits(theta, found.pictures))
    right = [(one.argmax(1) == found.classes).float() for one in logits]
    right = [one + (sum(right) == 0) for one in right]
    mean = sum(r[:, None] * one for r, one in zip(right, logits)) / sum(right)[:, None]
    torch.testing.assert_close(found.soft_labels, mean.softmax(1))


def test_updates_bring_the_embeddings_of_both_sides_together(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    config = guided(tiny, tmp_path, experts, updates=40, real_batch=20, lr_image=0.2)
    method, _ = method_of(config)
    optimiser = method.optimiser()

    def loss() -> float:
        with torch.no_grad():
            return float(method.loss(method.network(optimiser, 0), *method.batches(0), 0)[0])

    before = loss()
    for update in range(40):
        method.step(optimiser, update)
    assert loss() < 0.9 * before
    assert optimiser.param_groups[0]["lr"] < 0.01 * 0.2, "the rate falls along a cosine"


def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(
    tiny: Tiny, tmp_path: Path, experts: Path
) -> None:
    config = guided(tiny, tmp_path, experts)

    def keep(write: Callable[[Path], None], update: int) -> None:
        folder = tmp_path / f"update-{update}"
        folder.mkdir()
        write(folder)

    whole = run(config, on_checkpoint=keep)
    resumed = run(config, resume_from=tmp_path / "update-2")
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.soft_labels, whole.soft_labels)


def test_a_snapshot_beyond_the_trajectory_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"snapshots.max 5 lies beyond .* last kept epoch is 4"):
        guided(tiny, tmp_path, tmp_path, snapshots={"min": 1, "max": 5})
    with pytest.raises(UserError, match=r"snapshots.min 5 lies beyond .* last kept epoch is 4"):
        guided(tiny, tmp_path, tmp_path, snapshots={"min": 5, "max": None})


def test_snapshots_without_an_end_reach_to_the_last_epoch(tiny: Tiny, tmp_path: Path) -> None:
    """So a shorter training of the experts needs no other setting."""
    config = guided(tiny, tmp_path, tmp_path, snapshots={"min": 2, "max": None})
    assert [*config.snapshot_epochs] == [2, 3, 4]
    tree = config.model_dump(mode="json")
    tree["experts"]["keep_epochs"] = 3
    assert [*RunConfig.model_validate(tree).snapshot_epochs] == [2, 3]


def test_a_budget_sets_the_images_of_each_class(tiny: Tiny, tmp_path: Path, experts: Path) -> None:
    config = guided(tiny, tmp_path, experts)
    tree = config.model_dump(mode="json")
    sizes = [3, *[1] * 8, 2]
    tree["distill"] |= {"ipc": None, "budget": {"per_class": sizes}}
    found = run(RunConfig.model_validate(tree))
    assert torch.bincount(found.classes).tolist() == sizes and len(found.soft_labels) == 13
