"""``without_ray.py`` with Ray blocked gives the same set when it is stopped after every unit."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import without_ray

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config
from ltdd_ray.distill import checkpoint

Tiny = Callable[..., RunConfig]
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "without_ray.py"
# Blocks Ray, then calls main until it is done; the exit codes are the last line of stdout.
DRIVER = f"""
import sys
sys.modules["ray"] = None
sys.path.insert(0, {str(SCRIPT.parent)!r})
import without_ray
codes = []
while not codes or codes[-1] == without_ray.STOPPED:
    codes.append(without_ray.main(sys.argv[1:]))
print(codes)
"""


def driver(file: Path, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(file), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def undisturbed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    config, file = planned(tiny, tmp_path_factory.mktemp("undisturbed"))
    assert driver(file)[-1] == "[0]"
    return config


def planned(tiny: Tiny, folder: Path) -> tuple[RunConfig, Path]:
    config = tiny(folder)
    file = folder / "tiny.yaml"
    file.write_text(dump_config(config))
    return config, file


def distilled_bytes(config: RunConfig) -> bytes:
    return (config.folder / "distilled" / "distilled.safetensors").read_bytes()


def accuracies(config: RunConfig) -> dict[str, list[float]]:
    results = json.loads((config.folder / "results.json").read_text())
    return {name: found["accuracy"]["runs"] for name, found in results["sets"].items()}


def test_a_method_that_is_only_a_name_is_said(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(without_ray, "run", lambda config, timer: 0.5)
    _, file = planned(tiny, tmp_path)
    assert without_ray.main([str(file)]) == 0
    assert "note" not in capsys.readouterr().out
    assert without_ray.main([str(file), "--set", "method=mine"]) == 0
    assert "note: no method is called `mine`" in capsys.readouterr().out


def test_stopped_after_every_unit(tiny: Tiny, undisturbed: RunConfig, tmp_path: Path) -> None:
    config, file = planned(tiny, tmp_path)
    *lines, codes = driver(file, "--minutes", "0")
    networks = config.evaluate.networks * len(config.evaluate.sets)
    units = config.experts.count + config.distill.updates // config.distill.checkpoint_every
    assert json.loads(codes) == [75] * (units + networks - 1) + [0]
    assert lines[1] == "0 minutes are over; the same command goes on from here"
    assert distilled_bytes(config) == distilled_bytes(undisturbed)
    assert accuracies(config) == accuracies(undisturbed)


def test_killed_while_it_writes_a_checkpoint(
    tiny: Tiny, undisturbed: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import without_ray

    config, file = planned(tiny, tmp_path)
    write, written = checkpoint.write_atomic, []

    def die_at_the_second(path: Path, content: bytes | str) -> None:
        written.append(path.name)
        if written.count(checkpoint.PROGRESS) == 2:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(without_ray, "prepare_process", lambda threads: None)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomic", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            without_ray.main([str(file)])
    assert without_ray.main([str(file)]) == 0
    assert distilled_bytes(config) == distilled_bytes(undisturbed)
    assert accuracies(config) == accuracies(undisturbed)


def test_a_folder_of_another_config_is_refused(
    tiny: Tiny, undisturbed: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import without_ray

    file = tmp_path / "other.yaml"
    file.write_text(dump_config(undisturbed))
    assert without_ray.main([str(file), "--set", "distill.lr_image=5"]) == 1
    assert "belongs to a run with another config: distill.lr_image" in capsys.readouterr().err


@pytest.mark.ray
def test_it_ends_as_the_pipeline_does(
    tiny: Tiny, ray_cluster: None, undisturbed: RunConfig, tmp_path: Path
) -> None:
    from ltdd_ray.workflows.pipeline import run

    config = tiny(tmp_path, compute={"num_workers": 1})
    run(config, ("experts", "distill", "evaluate"))
    assert distilled_bytes(config) == distilled_bytes(undisturbed)
    assert accuracies(config) == accuracies(undisturbed)
