"""The wheel, built from this checkout without network and installed into an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import ltdd_ray
from ltdd_ray.config.shipped import FOLDER

ROOT = Path(__file__).parent.parent
SMALL = [
    "experts.count=1",
    "experts.representation.epochs=2",
    "experts.classifier.epochs=2",
    "distill.updates=2",
    "distill.segments_per_update=1",
    "distill.representation.start_epochs.max=0",
    "distill.classifier.start_epochs.max=0",
    "evaluate.networks=1",
    "evaluate.epochs=2",
    "evaluate.sets=[distilled]",
    "compute.num_cpus=2",
    "compute.num_actors=1",
    "compute.num_workers=1",
]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders behind that would enter the next one."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("ltdd_ray", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    pip("wheel", *options, str(source))
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The installed ``ltdd-ray``, called in a folder of its own; it must not see the checkout."""
    installed = tmp_path_factory.mktemp("installed")
    pip("install", "--no-index", "--no-deps", "--target", str(installed), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def call(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(installed / "bin" / "ltdd-ray"), *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    found = subprocess.run(
        [sys.executable, "-c", "import ltdd_ray; print(ltdd_ray.__file__)"],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(installed)
    return call


def pip(*words: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", *words, *quiet]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    packed = zipfile.ZipFile(wheel).namelist()
    package = Path(ltdd_ray.__file__).parent
    here = {
        f"ltdd_ray/{file.relative_to(package)}"
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    here |= {f"ltdd_ray/configs/{file.relative_to(FOLDER)}" for file in FOLDER.rglob("*.yaml")}
    assert len(here) > 200
    assert {name for name in packed if name.startswith("ltdd_ray/")} == here


def test_its_metadata_says_what_it_needs(wheel: Path) -> None:
    folder = f"ltdd_ray-{ltdd_ray.__version__}.dist-info"
    lines = zipfile.ZipFile(wheel).read(f"{folder}/METADATA").decode().splitlines()
    assert f"Version: {ltdd_ray.__version__}" in lines
    assert "Classifier: Operating System :: POSIX" in lines
    assert "Requires-Python: >=3.11" in lines


def test_shipped_configs_are_listed_and_printed(command: Command, tmp_path: Path) -> None:
    listed = command("configs", folder=tmp_path).stdout
    assert "\ndemo  " in listed and "\ncifar10_lt/cpu  " in listed and "_published" not in listed
    printed = command("configs", "demo", folder=tmp_path).stdout
    assert printed == (ROOT / "configs" / "demo.yaml").read_text()
    unknown = command("configs", "dmo", folder=tmp_path)
    assert unknown.returncode == 1 and "did you mean `demo`?" in unknown.stderr


def test_a_config_goes_by_its_name_in_an_empty_folder(command: Command, tmp_path: Path) -> None:
    told = command("data", "info", "demo_search", "--no-timing", folder=tmp_path)
    assert told.returncode == 0 and "imbalance factor" in told.stdout, told.stderr


def test_absent_images_are_answered_with_the_setting(command: Command, tmp_path: Path) -> None:
    told = command("run", "cifar10_lt/cpu", folder=tmp_path)
    assert told.returncode == 1
    assert "data.path: ../shared/data/cifar10 does not exist" in told.stderr
    assert "--set data.path=..." in told.stderr


@pytest.mark.ray
def test_the_demo_runs_by_its_name(command: Command, tmp_path: Path) -> None:
    done = command("run", "demo", "--set", *SMALL, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "demo"
    assert json.loads((folder / "results.json").read_text())["versions"]["ltdd-ray"]
    assert (folder / "report.html").exists()
