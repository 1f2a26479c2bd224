"""Every command of docs/own_images.md, on long-tailed digits written as PNG files."""

import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import ltdd_ray
from ltdd_ray.cli import main as cli
from ltdd_ray.config import DataConfig
from ltdd_ray.data.sources import load_source

ROOT = Path(__file__).parent.parent
COUNTS = (60, 40, 26, 17, 11, 7)
SMALL = [
    "model.width=8",
    "experts.count=2",
    "experts.representation.epochs=4",
    "distill.representation.start_epochs.max=1",
    "distill.updates=4",
    "evaluate.networks=1",
    "evaluate.epochs=3",
    "evaluate.sets=[distilled,distilled_8bit]",
]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of PNG files per class; its parent, the working directory, holds the examples."""
    digits, _ = load_source(DataConfig(source="digits"))
    for label, count in enumerate(COUNTS):
        folder = tmp_path / "photos" / f"digit {label}"
        folder.mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.labels == label][:count]):
            Image.fromarray(image[0]).save(folder / f"{number}.png")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_every_command_of_the_tutorial(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "own_images.md").read_text()
    commands = [
        shlex.split(line)
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    assert [command[1] for command in commands if command[0] == "ltdd-ray"] == [
        "init",
        "data",
        "run",
        "export",
    ]
    for program, *arguments in commands:
        if program == "ltdd-ray":
            small = ["--set", *SMALL] if arguments[0] in ("data", "run") else []
            assert cli.main([*arguments, *small]) == 0, capsys.readouterr().err
        else:
            monkeypatch.setattr(sys, "argv", [*arguments, "--epochs", "1"])
            runpy.run_path(arguments[0], run_name="__main__")
    said = capsys.readouterr().out
    assert (
        "sensible images per class: up to 2" in said
        and "time: about" in said
        and "memory: about" in said
    )
    assert torch.load("resnet18.pt", weights_only=True)["fc.bias"].shape == (6,)
    results = json.loads(Path("runs/photos/results.json").read_text())
    assert (
        results["class_names"] == [f"digit {k}" for k in range(6)]
        and "accuracy" in results["sets"]["distilled_8bit"]
    )
    exact, rounded = (100 * one["accuracy"]["mean"] for one in results["sets"].values())
    assert f"{exact:.1f} % before and {rounded:.1f} % after rounding to 8 bits" in said


def test_init_refuses_to_overwrite_and_names_what_is_wrong(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (64, 48)).save(next(photos.iterdir()) / "large.png")
    assert cli.main(["init", str(photos)]) == 0
    assert "note: images of size 64 x 48 are resized to 8 x 8" in capsys.readouterr().out
    assert cli.main(["init", str(photos)]) == 1
    assert (
        "photos.yaml: exists already and is not overwritten; remove it, or choose another file"
        in capsys.readouterr().err
    )

    def complaint(prepare: Callable[[], object], folder: Path = photos) -> str:
        prepare()
        assert (
            cli.main(["init", str(folder), "--output", "new.yaml"]) == 1
            and not Path("new.yaml").exists()
        )
        return capsys.readouterr().err

    assert "nothing: no such folder" in complaint(lambda: None, photos / "nothing")
    loose = complaint(lambda: None, photos / "digit 0")
    assert "digit 0: holds no class folders and 60 image files outside of any; move" in loose
    assert "move the images of each class into a folder of its own" in loose
    (photos.parent / "outer folder").mkdir()
    photos.rename(photos.parent / "outer folder" / "photos")
    outer = complaint(lambda: None, photos.parent / "outer folder")
    assert f"run `ltdd-ray init '{photos.parent / 'outer folder' / 'photos'}'`" in outer
    (photos.parent / "outer folder" / "photos").rename(photos)
    broken = photos / "digit 0" / "0.png"
    assert "not a readable image" in complaint(lambda: broken.write_bytes(b"cut"))
    broken.unlink()
    assert "digit 9: holds no image files" in complaint((photos / "digit 9").mkdir)


def test_a_notebook_does_what_the_commands_do(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file, sentences and table; and the images in the parts that the table counts."""
    assert cli.main(["init", str(photos), "--output", "commanded.yaml"]) == 0
    said = capsys.readouterr().out
    written = ltdd_ray.init(str(photos))
    assert written.file == Path("photos.yaml")
    assert f"{written}; next: ".replace("photos.yaml", "commanded.yaml") in said
    of_both = (Path(name).read_text().splitlines() for name in ("photos.yaml", "commanded.yaml"))
    assert all(a == b or "commanded.yaml" in b for a, b in zip(*of_both, strict=True))
    with pytest.raises(ltdd_ray.UserError, match="exists already and is not overwritten"):
        ltdd_ray.init(photos)

    assert cli.main(["data", "info", "photos.yaml", "--no-timing"]) == 0
    said = capsys.readouterr().out
    config = ltdd_ray.load_config("photos.yaml")
    shown = str(ltdd_ray.data_info(config, timing=False))
    assert shown.split() == said.split() and "digit 5" in shown and "time:" not in shown
    assert "time: about" in str(ltdd_ray.data_info(config))
    parts = ltdd_ray.load_data(config)
    assert len(parts.test.images) + len(parts.train.images) == sum(COUNTS)


def test_info_without_timing_measures_nothing(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.main(["init", str(photos)])
    monkeypatch.setitem(sys.modules, "ltdd_ray.workflows.cost", None)
    assert cli.main(["data", "info", "photos.yaml", "--no-timing"]) == 0
    said = capsys.readouterr().out
    assert "up to 2 (distill.ipc is 2)" in said and "time: about" not in said


def test_init_offers_a_larger_share_for_a_class_with_two_test_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, count in (("often", 40), ("rare", 10)):
        Path("photos", name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8), 5 * number).save(Path("photos", name, f"{number}.png"))
    assert cli.main(["init", "photos"]) == 0
    said = capsys.readouterr().out
    assert "note: 1 class will have fewer than 5 test images; rare will have 2, so one of" in said
    assert "note: test_fraction: 0.5 would give it 5" in said
    text = Path("photos.yaml").read_text()
    Path("photos.yaml").write_text(text.replace("test_fraction: 0.2", "test_fraction: 0.5"))
    assert cli.main(["data", "info", "photos.yaml", "--no-timing"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "one test image moves, in points: a class by up to 20, many-shot by up to 5" in told


def test_init_says_where_its_test_images_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for part, count in (("train", 40), ("test", 6)):
        for name in ("cat", "owl"):
            Path("photos", part, name).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (8, 8), 5 * number).save(Path("photos", part, name, f"{number}.png"))
    assert cli.main(["init", "photos"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "read: 80 training images, and 12 test images of photos/test"
    assert cli.main(["init", "photos/train", "--output", "whole.yaml"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "read: 80 images, 20 % of each class to be held out for testing"
