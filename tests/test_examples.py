"""The examples run as they are, for grey and colour sets; what they leave is a network's weights."""

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
    said = capsys.readouterr().out
    assert "trained on 6 images" in said and re.search(
        r"accuracy on the 3 images of .*: 33.3 %", said
    )


def test_test_images_go_by_the_names_of_their_classes(
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
