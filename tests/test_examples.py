"""The examples run as they are: the scripts, for grey and colour sets, and the notebook."""

import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

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


@pytest.mark.ray
def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code cells run in one namespace, as in Jupyter: functions of theirs are of __main__."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "from_python.ipynb").read_text())["cells"]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "the notebook is kept without outputs"
            exec("".join(cell["source"]), namespace)
    results = namespace["results"]
    assert results.values["model"]["name"] == "shallow" and len(results.distilled) == 50
    assert namespace["found"].accuracy > 0.2, "chance is 0.1"
    assert results.report.resolve() == tmp_path / "runs" / "from_python" / "report.html"
