"""The measures of one GPU, at a tiny size on the CPU: everything runs, and the numbers are of the kind they claim to be."""

import json
from pathlib import Path

import pytest
import torch

from ltdd_ray.bench import precision


def test_the_script_measures_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from gpu_speed import main

    file = tmp_path / "speed.json"
    assert main(["--json", str(file), "--repeats", "1", "--tiny"]) == 0
    found = json.loads(file.read_text())
    names = [
        f"{what}_{p}_vs_published"
        for what in ("update", "expert")
        for p in ("float32", "tf32", "bfloat16")
    ]
    assert {result["name"] for result in found["results"]} == {
        *names,
        "peak_gb",
        "memory_T80_over_T5",
    }
    assert all(result["ratio"] > 0 for result in found["results"])
    numbers = found["precisions"]
    assert (
        numbers["float32"]["cosines"]["backbone"]["images"]
        > 1 - 1e-9
        > numbers["bfloat16"]["cosines"]["backbone"]["images"]
    )
    assert all(of["flops"] > 0 and of["product_flops"] > 0 for of in numbers.values())
    assert found["profile"]["launches"] > 0 and len(found["profile"]["kernels"]) > 3
    assert "idle" in capsys.readouterr().out


def test_a_precision_ends_with_its_block() -> None:
    before = torch.backends.cudnn.allow_tf32
    for wanted, tf32, half in (
        ("float32", False, False),
        ("tf32", True, False),
        ("bfloat16", False, True),
    ):
        with precision.computing_in(wanted):
            assert (torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")) == (
                tf32,
                half,
            )
        assert (torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")) == (
            before,
            False,
        )
