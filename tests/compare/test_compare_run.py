"""A comparison on Ray: experts once, a table after each method, nothing twice."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.compare.run import compare
from ltdd_ray.config import RunConfig
from ltdd_ray.errors import UserError

Tiny = Callable[..., RunConfig]


def test_a_folder_of_something_else_is_refused_before_any_work(tmp_path: Path, tiny: Tiny) -> None:
    stranger = tmp_path / "tiny" / "ltdd" / "thesis.tex"
    stranger.parent.mkdir(parents=True)
    stranger.touch()
    with pytest.raises(UserError, match=r"files of something else, such as thesis\.tex"):
        compare(tiny(tmp_path), ["random", "ltdd"])
    assert [entry.name for entry in (tmp_path / "tiny").iterdir()] == ["ltdd"]


@pytest.mark.ray
def test_matching_methods_share_experts_that_are_trained_once(
    ray_cluster: None, tmp_path: Path, tiny: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = {"count": 1, "representation": {"epochs": 5, "batch_size": 64, "sharpness": "none"}, "classifier": {"epochs": 2}}
    one_process = {"num_workers": 1, "num_actors": 1}
    config = tiny(tmp_path, experts=experts, evaluate={"networks": 1, "epochs": 2}, compute=one_process)
    folder = config.folder
    compare(config, ["random", "mtt", "ltdd"])
    said = capsys.readouterr().out
    assert "experts: not needed for random" in said and said.count("experts: finished") == 1
    assert said.count("experts: already finished") == 1
    timings = {m: json.loads((folder / m / "run.json").read_text())["timings"] for m in ("random", "mtt", "ltdd")}
    assert [stage for stage in timings["random"] if stage != "report"] == ["evaluate"]
    assert "experts" in timings["mtt"] and "experts" not in timings["ltdd"]
    assert len(list((folder / "experts").glob("*.json"))) == 2 * config.experts.count

    rows = list(csv.DictReader((folder / "compare.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["random", "mtt", "ltdd", "experts of mtt, ltdd"]
    assert [row["labels"] for row in rows] == ["hard", "hard", "soft", ""]
    assert float(rows[3]["experts_seconds"]) == timings["mtt"]["experts"]
    assert json.loads((folder / "random" / "results.json").read_text())["set"] == "random"
    assert (folder / "random" / "report.html").exists() and not (folder / "random" / "distilled").exists()

    assert "3 runs on digits" in (folder / "compare.html").read_text()

    finished = {file: file.stat().st_mtime_ns for file in folder.rglob("results.json")}
    compare(config, ["ltdd", "random"])
    assert capsys.readouterr().out.count("evaluate: already finished") == 2
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert [line.split(" | ")[0] for line in (folder / "compare.md").read_text().splitlines()[4:7]] == [
        "| ltdd",
        "| random",
        "| experts of ltdd",
    ]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ltdd_ray.pipeline.evaluate_networks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(config, ["random", "k_center"])
    assert "| random |" in (folder / "compare.md").read_text(), "an interrupted comparison has the table of what is finished"
    assert "1 run on digits" in (folder / "compare.html").read_text()
