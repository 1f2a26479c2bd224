"""``gpu_speed.py`` at a tiny size on the CPU: all of it runs, and the numbers are of their kind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gpu_speed import PRECISIONS, Precision, both_sides, computing_in, like_for_like, main


def test_the_script_measures_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speed.json"
    main(["--json", str(file), "--repeats", "1", "--tiny"])
    found = json.loads(file.read_text())
    ratios = [f"{what}_{p}_vs_published" for what in ("update", "expert") for p in PRECISIONS]
    names = {result["name"] for result in found["results"]}
    assert names == {*ratios, "peak_gb", "memory_T80_over_T5"}
    assert all(result["ratio"] > 0 for result in found["results"])
    numbers = found["precisions"]
    single, half = (numbers[p]["cosines"]["backbone"]["images"] for p in ("float32", "bfloat16"))
    assert single > 1 - 1e-9 > half
    assert all(of["flops"] > 0 and of["product_flops"] > 0 for of in numbers.values())
    assert all(of["published_seconds"] > 0 for of in numbers.values())
    assert found["profile"]["launches"] > 0 and len(found["profile"]["kernels"]) > 3
    assert "idle" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("precision", "tf32", "autocast"),
    [("float32", False, False), ("tf32", True, False), ("bfloat16", False, True)],
)
def test_a_precision_ends_with_its_block(precision: Precision, tf32: bool, autocast: bool) -> None:
    def state() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")

    before = state()
    with computing_in(precision):
        assert state() == (tf32, autocast)
    assert state() == before


def test_published_code_runs_in_single_precision_and_as_torch_runs_it_by_default() -> None:
    seen = []

    def work(name: str) -> Callable[[], None]:
        return lambda: seen.append((name, torch.backends.cudnn.allow_tf32))

    for side in both_sides(work("published"), work("ours")).values():
        side()
    assert seen == [
        *(("published", tf32) for tf32 in (False, True)),
        *(("ours", tf32) for tf32 in (False, True, False)),
    ]


def test_ratios_compare_like_with_like() -> None:
    times = {"published float32": [6.0], "published tf32": [3.0]}
    times |= {"float32": [2.0], "tf32": [1.5], "bfloat16": [0.5]}
    found = {result.name: result.ratio for result in like_for_like("update", times)}
    assert found == {
        "update_float32_vs_published": 3,
        "update_tf32_vs_published": 2,
        "update_bfloat16_vs_published": 6,
    }
