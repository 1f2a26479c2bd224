"""The engines from start to end: their files, and that a killed run ends with the same set."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltdd_ray.cluster import distribution as pool
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.distribution.runner import (
    keep_checkpoint,
    latest_checkpoint,
    run_distribution,
)

Tiny = Callable[..., RunConfig]
SETTINGS = {
    "updates": 8,
    "real_batch": 5,
    "lr_image": 0.1,
    "queue": {"size": 2, "enter_every": 2, "steps": 2, "batch_size": 16},
    "gradient": {"updates_per_network": 3, "epochs": 2, "batch_size": 16},
}


def settings(tiny: Tiny, folder: Path, engine: str) -> RunConfig:
    """``dream`` is ``dc`` with real images chosen at updates 1, 5 and 9."""
    distribution = dict(SETTINGS)
    if engine == "dream":
        engine = "dc"
        distribution |= {"real_images": "representative", "choose_every": 4}
    distill = {"ipc": 3, "engine": engine, "distribution": distribution, "checkpoint_every": 3}
    return tiny(folder, distill={**distill, "pictures_per_side": 2 if engine == "idm" else 1})


@pytest.fixture(scope="module")
def data(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare_data(settings(tiny, tmp_path_factory.mktemp("data"), "dm"))


class Stop(Exception):
    pass


@pytest.mark.parametrize("engine", ["dc", "dream", "dm", "idm"])
def test_a_run_that_was_stopped_ends_with_the_same_set(
    tiny: Tiny, data: PreparedData, tmp_path: Path, engine: str
) -> None:
    whole = settings(tiny, tmp_path / "whole", engine)
    broken = settings(tiny, tmp_path / "broken", engine)
    expected = run_distribution(whole, data, lambda report: None)

    def stop(report: Any) -> None:
        if not isinstance(report, str) and report.update == 5:
            raise Stop

    with pytest.raises(Stop):
        run_distribution(broken, data, stop)
    heard: list[Any] = []
    found = run_distribution(broken, data, heard.append)
    assert [report.update for report in heard] == [4, 5, 6, 7, 8], (
        "it goes on from update 3, and the start is not told again"
    )
    assert torch.equal(found.images, expected.images)
    checkpoints = [
        latest_checkpoint(config.folder / "distilled" / "checkpoints") for config in (whole, broken)
    ]
    one, other = ((folder / "state.safetensors").read_bytes() for folder in checkpoints if folder)
    assert one == other
    history = [
        json.loads(line)["update"]
        for line in (broken.folder / "distilled" / "history.jsonl").read_text().splitlines()
    ]
    assert history == list(range(1, 9))


@pytest.mark.parametrize("engine", ["dm", "idm"])
def test_a_stopped_run_does_not_go_on_with_other_images(
    tiny: Tiny, data: PreparedData, tmp_path: Path, engine: str
) -> None:
    config = settings(tiny, tmp_path, engine)

    def stop(report: Any) -> None:
        if not isinstance(report, str) and report.update == 5:
            raise Stop

    with pytest.raises(Stop):
        run_distribution(config, data, stop)
    changed = np.array(data.train.images)
    changed[0] = 255 - changed[0]
    train = LongTailedDataset(changed, data.train.labels, data.train.class_names)
    with pytest.raises(UserError, match="checkpoint was made from other training images"):
        run_distribution(config, replace(data, train=train), lambda report: None)


@pytest.mark.parametrize(("engine", "per_class"), [("dm", 3), ("idm", 12)])
def test_what_is_stored_can_be_trained_on_as_it_is(
    tiny: Tiny, data: PreparedData, tmp_path: Path, engine: str, per_class
) -> None:
    config = settings(tiny, tmp_path, engine)
    heard: list[Any] = []
    run_distribution(config, data, heard.append).save(config.folder / "distilled")
    distilled, initial = (
        DistilledSet.load(config.folder, name) for name in ("distilled", "initial")
    )
    assert not torch.equal(distilled.images, initial.images)
    for stored in (distilled, initial):
        assert torch.bincount(stored.classes).tolist() == [per_class] * 10
        assert torch.equal(stored.soft_labels, torch.eye(10)[stored.classes]), (
            "labels are exactly one-hot"
        )
        assert stored.learning_rate == config.evaluate.lr
        side = config.distill.pictures_per_side
        assert len(stored.images) * side**2 == len(stored) == 10 * per_class
        assert stored.provenance["images_per_class"] == [per_class // side**2] * 10
    said = [report for report in heard if isinstance(report, str)]
    counts = data.train.class_counts
    assert len(said) == int((counts < per_class).sum())
    if said:
        assert said[-1].endswith(
            f"{counts[9]} real images for 12 initial ones; {12 - counts[9]} augmented repeats "
            "fill it"
        )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_killed_actor(
    tiny: Tiny, data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (
        settings(tiny, tmp_path / "whole", "idm"),
        settings(tiny, tmp_path / "broken", "idm"),
    )
    struck = tmp_path / "struck"

    def fragile(config: RunConfig, data: Any, report: Callable[[Any], None]) -> DistilledSet:
        from ltdd_ray.distill.distribution.runner import run_distribution

        def strike(message: Any) -> None:
            report(message)
            if not isinstance(message, str) and message.update == 5 and not struck.exists():
                struck.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return run_distribution(config, data, strike)

    monkeypatch.setattr(pool, "_run_with_checks", fragile)
    found, peak = pool.match_on_actor(broken, data, lambda report: None)
    assert struck.exists() and peak > 0
    assert torch.equal(found.images, run_distribution(whole, data, lambda report: None).images)


def test_a_checkpoint_that_was_copied_in_part_is_no_checkpoint(tmp_path: Path) -> None:
    """As on another machine, after a kill during the upload. A new one takes its place."""

    def write(folder: Path) -> None:
        (folder / "state.safetensors").write_text("state")
        (folder / "progress.json").write_text("{}")

    keep_checkpoint(tmp_path, write, 3)
    (tmp_path / "update-6").mkdir()
    (tmp_path / "update-6" / "state.safetensors").touch()
    assert latest_checkpoint(tmp_path) == tmp_path / "update-3"
    keep_checkpoint(tmp_path, write, 6)
    assert [folder.name for folder in tmp_path.iterdir()] == ["update-6"]
    assert latest_checkpoint(tmp_path) == tmp_path / "update-6"
