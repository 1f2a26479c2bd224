"""Every stage on another device than the CPU: tensors lie on it, and results are the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from awaykit import DEVICE, Away, OtherDevice

from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.trajectory import loop
from ltdd_ray.evaluate import train
from ltdd_ray.experts import expert as run
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.store import TrajectoryStore

STAGE = {"epochs": 2, "batch_size": 128}
PHASE = {"syn_steps": 2, "expert_epochs": 1, "start_epochs": {"max": 1}}
SMALL = {
    "augmentation": "",
    "data": {"source": "digits", "imbalance_factor": 100, "normalisation": "zca"},
    "experts": {"count": 1, "representation": STAGE, "classifier": STAGE},
    "distill": {
        "ipc": 2,
        "updates": 2,
        "representation": {**PHASE, "scope": "all"},
        "classifier": PHASE,
    },
    "evaluate": {"networks": 1, "epochs": 1},
}


def all_stages(config: RunConfig) -> tuple[torch.Tensor, DistilledSet, tuple[float, ...]]:
    """An expert's last classifier, the distilled set and a network's accuracies."""
    data = prepare_data(config)
    for expert in range(config.experts.count):
        run.run_expert(config, data, expert, lambda report: None)
    result = loop.distill(
        config,
        data,
        on_update=lambda report, synthetic: None,
        on_checkpoint=lambda write, update: write(config.folder),
        on_initial=lambda initial, said: None,
    )
    result.save(config.folder / "distilled")
    accuracies = [
        train.evaluate_network(
            config, data, name, config.model.label, 0, lambda report: None
        ).per_class
        for name in ("distilled", "random")
    ]
    store = TrajectoryStore.open(config.store_uri)
    return (
        store.read(0, "classifier", store.epochs(0, "classifier")[-1])[1].clone(),
        result,
        accuracies[0] + accuracies[1],
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"model": {"width": 4, "depth": 2, "norm": "batch"}}],
    ids=["by hand", "by autograd"],
)
def test_every_stage_on_another_device(
    changes: dict, tiny: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = all_stages(tiny(tmp_path / "here", **SMALL, **changes))
    for module in (run, loop, train):
        monkeypatch.setattr(module, "default_device", lambda: DEVICE)
    with OtherDevice():
        there = all_stages(tiny(tmp_path / "there", **SMALL, **changes))
    torch.testing.assert_close(there[0], here[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(there[1].images, here[1].images, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("operation", ["color", "crop", "cutout", "flip", "scale", "rotate"])
def test_augmentation_on_another_device(operation: str) -> None:
    images, augment = torch.arange(2.0 * 3 * 8 * 8).view(2, 3, 8, 8), Augmentation(operation)
    with OtherDevice():
        there = augment(images.to(DEVICE), generator(0, "test")).cpu()
    torch.testing.assert_close(there, augment(images, generator(0, "test")))


def test_the_other_device_refuses_what_a_gpu_refuses() -> None:
    with OtherDevice():
        away = torch.ones(3, device=DEVICE)
        assert isinstance(away, Away) and away.device == DEVICE and float(away.sum()) == 3
        assert not isinstance(away.cpu(), Away)
        with pytest.raises(RuntimeError, match="two devices"):
            away + torch.ones(3)
        with pytest.raises(RuntimeError):
            away.numpy()
