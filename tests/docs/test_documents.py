"""Every snippet of README and docs works: Python runs, settings load, commands parse."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ltdd_ray.cli.parser import build_parser
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.layout import Parameter, ParameterLayout
from ltdd_ray.config.loading import load_config, parse_config
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.store import TrajectoryHeader, TrajectoryWriter

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets(language: str) -> list:
    """Each fenced block of one language, named after its page and line."""
    blocks = []
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text[: found.start()].count("\n") + 1
            marks = [pytest.mark.ray] if "ltdd_ray.run(" in found[1] else []
            blocks.append(pytest.param(found[1], id=f"{page.name}:{line}", marks=marks))
    return blocks


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a distilled set and a trajectory store where the demo leaves them."""
    normalisation = Normalisation.fit(
        np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), dtype=np.uint8), "standard"
    )
    draw = torch.Generator().manual_seed(0)
    DistilledSet(
        images=torch.randn(6, 1, 8, 8, generator=draw),
        soft_labels=torch.rand(6, 3, generator=draw).softmax(1),
        classes=torch.tensor([0, 0, 1, 1, 2, 2]),
        learning_rate=0.03,
        normalisation=normalisation,
        class_names=("cat", "dog", "owl"),
        augmentation="flip_crop",
        provenance={},
    ).save(tmp_path / "runs" / "demo" / "distilled")
    layout = ParameterLayout(
        (Parameter("body", (6,), 0), Parameter("classifier.weight", (4,), 6)), backbone_size=6
    )
    header = TrajectoryHeader(
        3, "representation", "identity", "config", "data", layout, (5, 2), seed=0
    )
    with TrajectoryWriter(str(tmp_path / "runs" / "demo" / "experts"), header) as writer:
        for epoch in range(13):
            writer.append(epoch, np.ones(4, np.float32), np.ones(6, np.float32))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("code", snippets("python"))
def test_python_runs(code: str, demo: None) -> None:
    Path("snippet.py").write_text(code)
    runpy.run_path("snippet.py")


@pytest.mark.parametrize("text", snippets("yaml"))
def test_settings_load(text: str) -> None:
    parse_config(yaml.safe_load(text), "the page")


@pytest.mark.parametrize("text", snippets("sh"))
def test_commands_are_understood(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            understand(words)


def understand(words: list[str]) -> None:
    """Raise where the program that a command names would refuse its words."""
    program, *rest = words
    match Path(program).name:
        case "ltdd-ray":
            options = build_parser().parse_args(rest)
            if "config" in options and options.config.startswith("configs/"):
                load_config(ROOT / options.config, options.set)
        case "make":
            assert all(
                re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
                for target in rest
            ), rest
        case "python":
            assert (ROOT / rest[0]).exists(), rest[0]
            if rest[0].startswith("jobs/"):
                verb = {"pipeline": "run"}.get(Path(rest[0]).stem, Path(rest[0]).stem)
                understand(["ltdd-ray", verb, *rest[1:]])
        case "ray":
            if "--" in rest:
                understand(rest[rest.index("--") + 1 :])
        case _:
            assert program in {"cd", "git", "kubectl", "pip", "curl", "export"}, (
                f"nothing checks `{program}`"
            )


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ("ltdd-ray runs x.yaml", SystemExit, "2"),
        ("ltdd-ray run configs/none.yaml", UserError, "none.yaml: no such config file"),
        ("ltdd-ray run configs/demo.yaml --set distill.ipx=3", UserError, "unknown key"),
        ("make nonsense", AssertionError, "nonsense"),
        ("python jobs/none.py x.yaml", AssertionError, "jobs/none.py"),
        ("python jobs/pipeline.py", SystemExit, "2"),
        ("ray job submit -- python jobs/none.py", AssertionError, "jobs/none.py"),
        ("mkae", AssertionError, "nothing checks `mkae`"),
    ],
)
def test_a_wrong_command_would_be_noticed(
    wrong: str, error: type[BaseException], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        understand(wrong.split())
    assert caught.type is error
