"""The headline script at a tiny size: slices end in time, a killed one is taken up again, and the set is that of one long slice."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ltdd_ray.bench.headline import plan
from ltdd_ray.bench.headline.clock import Clock
from ltdd_ray.bench.headline.command import CALL_AGAIN, DONE
from ltdd_ray.common.errors import UserError
from ltdd_ray.distill import checkpoint

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CONFIGS = BENCHMARKS.parent / "configs" / "cifar10_lt"
TINY = [
    "data.source=digits",
    "data.imbalance_factor=10",
    "data.normalisation=standard",
    "model={width: 4, depth: 2}",
    "augmentation=flip",
    "experts.count=2",
    "experts.representation={epochs: 2, batch_size: 128, sharpness: none}",
    "experts.classifier={epochs: 2, batch_size: 256}",
    "distill.ipc=2",
    "distill.updates=4",
    "distill.checkpoint_every=1",
    "distill.representation={syn_steps: 2, start_epochs: {max: 1}, expert_epochs: 1}",
    "distill.classifier={syn_steps: 1, expert_epochs: 1}",
    "distill.lr_image=10",
    "evaluate={networks: 2, epochs: 2}",
]


@pytest.fixture
def headline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``headline(work, out, *more)``: one slice of IF 100, IPC 50 by LTDD."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    from gpu_headline import main

    def run(work: str, out: str, *more: str, method: str = "ltdd") -> int:
        places = [
            "--work",
            str(tmp_path / work),
            "--out",
            str(tmp_path / out),
            "--data",
            str(tmp_path),
        ]
        sizes = [
            "--cells",
            "if100_ipc50",
            "--methods",
            method,
            "--processes",
            "1",
            "--threads",
            "1",
        ]
        return main(
            [
                *places,
                *sizes,
                *more,
                "--set",
                *TINY,
                f"evaluate.sets=[{'random' if method == 'random' else 'distilled'}]",
            ]
        )

    return run


def final(folder: Path) -> dict[str, torch.Tensor]:
    (latest,) = (folder / "if100_ipc50-ltdd").iterdir()
    assert latest.name == "000004"
    return load_file(latest / checkpoint.STATE)


def test_a_killed_slice_is_taken_up_on_another_machine(
    headline: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert headline("one", "whole") == DONE

    def kill(path: Path, content: bytes | str) -> None:
        if path.parent.name == "000003" and path.name == checkpoint.PROGRESS:
            raise KeyboardInterrupt
        write(path, content)

    write = checkpoint.write_atomic
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomic", kill)
        with pytest.raises(KeyboardInterrupt):
            headline("two", "first")
    assert headline("three", "second", "--carried", str(tmp_path / "first")) == DONE
    whole, resumed = final(tmp_path / "whole"), final(tmp_path / "second")
    assert (
        all(torch.equal(whole[name], resumed[name]) for name in whole)
        and whole.keys() == resumed.keys()
    )

    run = json.loads((tmp_path / "second" / "results.json").read_text())["runs"]["if100_ipc50-ltdd"]
    assert run["finished"] and run["accuracy"]["networks"] == 2
    assert [one["stage"] for one in run["slices"]] == [
        "experts",
        "distill",
        "experts",
        "distill",
        "evaluate",
    ]
    assert headline("three", "second") == DONE  # nothing is left to do


def test_a_slice_ends_in_time_and_says_so(
    headline: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([True, True, True, False, False, False])
    with monkeypatch.context() as patch:
        patch.setattr(Clock, "allows", lambda clock, seconds: next(left))
        assert headline("one", "out") == CALL_AGAIN
    assert headline("one", "out") == DONE
    final(tmp_path / "out")


def test_other_settings_are_refused(
    headline: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert headline("one", "out", method="random") == DONE
    TINY.append("evaluate.lr=0.5")
    try:
        assert headline("one", "out", method="random") == 1
    finally:
        TINY.pop()
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize("cell", ["if100_ipc50", "if200_ipc50", "if100_ipc10", "if10_ipc50"])
@pytest.mark.parametrize("method", ["ltdd", "datm", "random"])
def test_every_cell_by_every_method_has_a_config(cell: str, method: str, tmp_path: Path) -> None:
    run = plan.plan_run(cell, method, CONFIGS, tmp_path, tmp_path, [])
    factor, ipc = (int("".join(filter(str.isdigit, part))) for part in cell.split("_"))
    assert (run.config.data.imbalance_factor, run.config.distill.ipc) == (factor, ipc)
    assert run.config.store_uri == str(tmp_path / f"if{factor}")
    fewer = plan.plan_run(cell, method, CONFIGS, tmp_path, tmp_path / "other", ["experts.count=50"])
    assert fewer.identity == run.identity


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean"):
        plan.plan_run("if10_ipc50", "ltdd", CONFIGS, tmp_path, tmp_path, ["distill.update=1"])
