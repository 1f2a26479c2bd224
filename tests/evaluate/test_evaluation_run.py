"""The evaluation on real Ray actors, of a distilled set that lies there already."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.workflows.pipeline import run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_other_sets_and_architectures_and_only_what_is_missing(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    evaluate = {
        "networks": 1,
        "epochs": 2,
        "sets": ["distilled_calibrated", "distilled_hard"],
        "models": [{"name": "alexnet"}],
    }
    config = tiny(tmp_path, evaluate=evaluate)
    data, folder, draw = (
        prepare_data(config),
        RunFolder.open(config),
        torch.Generator().manual_seed(0),
    )
    DistilledSet(
        images=torch.randn(20, *data.train.image_shape, generator=draw),
        soft_labels=torch.randn(20, 10, generator=draw)
        .add(torch.tensor(data.train.prior).log())
        .float()
        .softmax(-1),
        classes=torch.arange(10).repeat_interleave(2),
        learning_rate=0.01,
        normalisation=data.normalisation,
        class_names=data.train.class_names,
        augmentation="",
    ).save(folder.distilled)

    run(config, ("evaluate", "report"))
    results = json.loads(folder.results.read_text())
    assert {name: one["labels"] for name, one in results["sets"].items()} == {
        "distilled_calibrated": "soft",
        "distilled_hard": "hard",
    }
    assert results["tau"] > 0
    assert list(results["cross_architecture"]) == ["convnet2-w4-instance", "alexnet"]
    assert results["expert_classifier_norms"] == {}
    assert sum(images for *_, images in results["confusion"]) == len(data.evaluation)

    records = {record.name: record.stat().st_mtime_ns for record in folder.evaluation.iterdir()}
    (folder.evaluation / "distilled_calibrated-alexnet-0.json").unlink()
    run(config, ("evaluate",))
    again = {record.name: record.stat().st_mtime_ns for record in folder.evaluation.iterdir()}
    assert [name for name in again if again[name] != records[name]] == [
        "distilled_calibrated-alexnet-0.json"
    ]
    assert (
        json.loads(folder.results.read_text())["cross_architecture"]
        == results["cross_architecture"]
    )
