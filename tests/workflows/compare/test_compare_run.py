"""A comparison on Ray: experts once, a table after each method, nothing twice."""

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.workflows.compare.run_methods import compare

Tiny = Callable[..., RunConfig]


def test_a_folder_of_something_else_is_refused_before_any_work(tmp_path: Path, tiny: Tiny) -> None:
    stranger = tmp_path / "tiny" / "ltdd" / "thesis.tex"
    stranger.parent.mkdir(parents=True)
    stranger.touch()
    with pytest.raises(UserError, match=r"files that are not of a run, such as thesis\.tex"):
        compare(tiny(tmp_path), ["random", "ltdd"])
    assert [entry.name for entry in (tmp_path / "tiny").iterdir()] == ["ltdd"]


EXPERTS = {
    "count": 1,
    "representation": {"epochs": 5, "batch_size": 64, "sharpness": "none"},
    "classifier": {"epochs": 2},
}
SMALL = {"experts": EXPERTS, "evaluate": {"networks": 1, "epochs": 2}}
ONE_PROCESS = {"num_workers": 1, "num_actors": 1}


@pytest.fixture(scope="module")
def compared(
    ray_cluster: None, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunConfig, str]:
    """A comparison of one method after another, and what it said."""
    config = tiny(tmp_path_factory.mktemp("compared"), **SMALL, compute=ONE_PROCESS)
    said = io.StringIO()
    compare(config, ["random", "mtt", "ltdd"], Console(file=said, width=120))
    return config, said.getvalue()


@pytest.mark.ray
def test_matching_methods_share_experts_that_are_trained_once(
    compared: tuple[RunConfig, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, said = compared
    folder = config.folder
    assert "experts: not needed for random" in said and said.count("experts: finished") == 1
    assert said.count("experts: already finished") == 1
    timings = {
        m: json.loads((folder / m / "run.json").read_text())["timings"]
        for m in ("random", "mtt", "ltdd")
    }
    assert [stage for stage in timings["random"] if stage != "report"] == ["evaluate"]
    assert "experts" in timings["mtt"] and "experts" not in timings["ltdd"]
    assert len(list((folder / "experts").glob("*.json"))) == 2 * config.experts.count

    rows = list(csv.DictReader((folder / "compare.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["random", "mtt", "ltdd", "experts of mtt, ltdd"]
    assert [row["labels"] for row in rows] == ["hard", "hard", "soft", ""]
    assert float(rows[3]["experts_seconds"]) == timings["mtt"]["experts"]
    assert json.loads((folder / "random" / "results.json").read_text())["set"] == "random"
    assert (folder / "random" / "report.html").exists() and not (
        folder / "random" / "distilled"
    ).exists()

    assert "3 runs on digits" in (folder / "compare.html").read_text()

    finished = {file: file.stat().st_mtime_ns for file in folder.rglob("results.json")}
    compare(config, ["ltdd", "random"])
    assert capsys.readouterr().out.count("evaluate: already finished") == 2
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert [
        line.split(" | ")[0] for line in (folder / "compare.md").read_text().splitlines()[4:7]
    ] == [
        "| ltdd",
        "| random",
        "| experts of ltdd",
    ]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ltdd_ray.workflows.stages.evaluate_networks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(config, ["random", "k_center"])
    assert "| random |" in (folder / "compare.md").read_text(), (
        "an interrupted comparison has the table of what is finished"
    )
    assert "1 run on digits" in (folder / "compare.html").read_text()


@pytest.mark.ray
def test_methods_at_once_overlap_and_end_as_one_after_another(
    compared: tuple[RunConfig, str], tiny: Tiny, tmp_path: Path
) -> None:
    expected, methods = compared[0].folder, ("mtt", "ltdd")
    config = tiny(tmp_path, **SMALL, compute={**ONE_PROCESS, "methods_at_once": 2})
    said = io.StringIO()
    compare(config, methods, Console(file=said, width=120))
    lines = said.getvalue().splitlines()
    assert any(line.startswith("mtt: experts: finished") for line in lines)
    assert any(line.startswith("ltdd: experts: already finished") for line in lines)
    spans = []
    for method in methods:
        here, there = (
            json.loads((folder / method / "results.json").read_text())
            for folder in (config.folder, expected)
        )
        assert here["sets"] == there["sets"]
        here, there = (
            folder / method / "distilled" / "distilled.safetensors"
            for folder in (config.folder, expected)
        )
        assert here.read_bytes() == there.read_bytes()
        run = json.loads((config.folder / method / "run.json").read_text())
        end = datetime.fromisoformat(run["finished"]["distill"]).timestamp()
        spans.append((end - run["timings"]["distill"], end))
    assert max(begin for begin, _ in spans) < min(end for _, end in spans), (
        "one method waited for the other"
    )
    rows = csv.DictReader((config.folder / "compare.csv").read_text().splitlines())
    assert [row["method"] for row in rows][:2] == list(methods)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("compute", "complaint"),
    [
        (
            {"num_actors": 2, "methods_at_once": 3},
            r"room for 2, not for 3 methods .* --set compute\.methods_at_once=2 or lower",
        ),
        (
            {"gpus_per_actor": "auto", "methods_at_once": 2},
            "gpus_per_actor is auto, which fills the cluster with one method",
        ),
    ],
)
def test_more_methods_than_the_cluster_holds_are_refused(
    ray_cluster: None, tiny: Tiny, tmp_path: Path, compute: dict, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        compare(tiny(tmp_path, compute={**ONE_PROCESS, **compute}), ["random", "k_center"])
    assert not list(tmp_path.iterdir())
