"""The examples run as they are: the scripts, for grey and colour sets, and the notebooks."""

import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score

from ltdd_ray.config.loading import load_config
from ltdd_ray.data.load import load_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.export.export import export

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_example(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision(
    make_set: Callable[..., DistilledSet],
    channels: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_set(channels).save(tmp_path / "run" / "distilled")
    for name in ("cat", "dog", "owl"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (20, 12), 90).save(tmp_path / "test" / name / "0.png")
    weights = tmp_path / "model.pt"
    arguments = [
        str(tmp_path / "run"),
        "--model",
        "shufflenet_v2_x0_5",
        "--epochs",
        "2",
        "--save",
        str(weights),
    ]
    run_example("train_torchvision.py", [*arguments, "--test", str(tmp_path / "test")], monkeypatch)
    assert torch.load(weights, weights_only=True)["fc.bias"].shape == (3,)
    output = capsys.readouterr().out
    assert "trained on 6 images" in output
    assert re.search(
        r"on the 3 images of .*: balanced accuracy \(mean over 3 classes\) 33\.3 %, accuracy over "
        r"images 33\.3 %",
        output,
    )


def test_test_folders_are_matched_with_classes_by_name(
    make_set: Callable[..., DistilledSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_set(class_names=("owl", "cat", "dog")).save(tmp_path / "run" / "distilled")
    for name in ("cat", "owl"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (9, 8), 90).save(tmp_path / "test" / name / "0.png")
    arguments = [
        str(tmp_path / "run"),
        "--model",
        "shufflenet_v2_x0_5",
        "--epochs",
        "1",
        "--save",
        str(tmp_path / "model.pt"),
    ]
    variables = run_example(
        "train_torchvision.py", [*arguments, "--test", str(tmp_path / "test")], monkeypatch
    )
    assert [label for _, label in variables["test"]] == [1, 0]
    assert variables["test"][0][0].shape == (3, 9, 8), "an image of the set's size"
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "bat")
    with pytest.raises(SystemExit):
        run_example(
            "train_torchvision.py", [*arguments, "--test", str(tmp_path / "test")], monkeypatch
        )
    assert "the set has no class 'bat'; it has owl, cat, dog" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [1, 3])
def test_timm(
    make_set: Callable[..., DistilledSet],
    channels: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = export(make_set(channels).save(tmp_path), "npz", None).folder
    weights = tmp_path / "model.pt"
    arguments = [
        str(folder / "distilled.npz"),
        "--model",
        "test_resnet",
        "--epochs",
        "2",
        "--save",
        str(weights),
    ]
    run_example("train_timm.py", arguments, monkeypatch)
    assert torch.load(weights, weights_only=True)["fc.bias"].shape == (3,)
    assert "trained on 6 images" in capsys.readouterr().out


def run_notebook(name: str) -> dict[str, Any]:
    """The code cells run in one namespace, as in Jupyter: functions of theirs are of __main__."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in json.loads((EXAMPLES / name).read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "the notebook is kept without outputs"
            exec("".join(cell["source"]), namespace)
    return namespace


@pytest.mark.ray
def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = run_notebook("from_python.ipynb")
    results = namespace["results"]
    assert results.values["model"]["name"] == "shallow" and len(results.distilled) == 50
    assert namespace["found"].accuracy > 0.2, "chance is 0.1"
    assert results.report.resolve() == tmp_path / "runs" / "from_python" / "report.html"


@pytest.mark.ray
def test_notebook_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder that it draws to a network that knows the drawings, and a new one."""
    monkeypatch.chdir(tmp_path)
    namespace = run_notebook("photos.ipynb")
    counts = {
        name: len(list((tmp_path / "photos" / name).iterdir())) for name in namespace["DRAWN"]
    }
    assert counts == {name: count for name, (count, *_) in namespace["DRAWN"].items()}
    assert namespace["results"].values["method"] == "tgdd_mosaic", "the one that init proposes"
    assert namespace["results"].report.parent.resolve() == tmp_path / "runs" / "photos_trial"
    assert namespace["found"].accuracy > 0.5, "chance is 0.2"
    assert namespace["sheet"].size == (2 + 10 * 34, 2 + 5 * 34), "five of each kind, per class"
    probabilities = namespace["probabilities"]
    likely = sorted(probabilities, key=lambda name: probabilities[name])[-2:]
    assert "square" in likely, "what the new photo shows"
    weights = torch.load("photos.pt", weights_only=True)
    assert weights["classifier.bias"].shape == (5,)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("ignore")  # Lightning's own, about workers of loaders and its imports
def test_lightning(
    make_set: Callable[..., DistilledSet],
    channels: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("lightning", reason="pip install lightning")
    distilled = make_set(channels)
    distilled.save(tmp_path / "run" / "distilled")
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--model", "shufflenet_v2_x0_5", "--epochs", "2", "--save", "m.ckpt"]
    variables = run_example("train_lightning.py", arguments, monkeypatch)
    assert "trained on 6 images" in capsys.readouterr().out
    weights = torch.load(tmp_path / "m.ckpt", weights_only=False)["state_dict"]
    assert weights["network.fc.bias"].shape == (3,)
    classifier = variables["classifier"].eval()
    assert classifier.trainer.optimizers[0].param_groups[0]["initial_lr"] == pytest.approx(0.03)
    pixels = torch.full((4, channels, 9, 8), 90.0)
    with torch.no_grad():
        wanted = classifier(distilled.normalisation.apply(pixels)).argmax(1)
    assert torch.equal(classifier.predict_step(pixels, 0), wanted)


def test_cells_are_an_npz_of_unequal_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "cells.npz"
    kinds = run_example("make_cells.py", [str(file)], monkeypatch)["KINDS"]
    assert "train [800, 200, 100, 50, 25, 15]" in capsys.readouterr().out
    config = load_config(EXAMPLES / "cells.yaml", data__path=str(file))
    splits = load_data(config.data, config.seed)
    assert splits.train.class_counts.tolist() == list(kinds.values())
    assert np.bincount(splits.test.labels).tolist() == [320, 80, 40, 20, 10, 10]
    assert splits.train.image_shape == (1, 28, 28)
    assert not np.array_equal(splits.train.images[0], splits.train.images[1])


def test_the_kinds_of_cells_can_be_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a forest on raw pixels; a fifth of balanced accuracy above chance is enough."""
    run_example("make_cells.py", [str(tmp_path / "cells.npz")], monkeypatch)
    with np.load(tmp_path / "cells.npz") as arrays:
        images, labels = (
            {name: arrays[f"{name}_{what}"] for name in ("train", "test")}
            for what in ("images", "labels")
        )
    assert images["train"].dtype == labels["train"].dtype == np.uint8
    assert labels["train"].shape == (1190, 1) and images["train"].shape == (1190, 28, 28)
    forest = RandomForestClassifier(50, class_weight="balanced", random_state=0)
    forest.fit(images["train"].reshape(1190, -1), labels["train"][:, 0])
    found = forest.predict(images["test"].reshape(480, -1))
    assert balanced_accuracy_score(labels["test"][:, 0], found) > 1 / 6 + 0.2
