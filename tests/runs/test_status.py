import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ltdd_ray.cli import main as cli
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.runs.events import record_event, record_progress
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.progress import StageState
from ltdd_ray.runs.status import read_status

DISTILL = StageState("distill", 40, 200, "updates", 8.0, "loss 0.9")


@pytest.fixture
def folder(tiny: Callable[..., RunConfig], tmp_path: Path) -> RunFolder:
    folder = RunFolder.open(tiny(tmp_path))
    folder.record_stage("experts", 65, 10)
    return folder


def test_a_run_half_way(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    record_event(folder.path, "experts: finished in 65 s")
    record_event(folder.path, "distill: class 9 was filled up")
    record_progress(folder.path, DISTILL)
    status = read_status(folder.path)
    assert (
        status["stage"],
        status["done"],
        status["total"],
        status["unit"],
        status["rate"],
    ) == DISTILL[:2] + DISTILL[2:5]
    assert (
        not status["finished"] and status["stages"] == {"experts": 65} and 0 <= status["age"] < 60
    )
    assert status["last_event"]["event"] == "distill: class 9 was filled up"

    assert cli.main(["status", str(folder.path)]) == 0
    shown = capsys.readouterr().out
    assert f"{folder.path}: not finished" in shown and "experts: finished in 1 min 5 s" in shown
    assert (
        "distill: 40 of 200 updates at 8.0 updates/s, last update" in shown
        and "class 9 was filled up" in shown
    )
    assert cli.main(["status", str(folder.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 40


def test_a_finished_run_and_one_that_goes_on_again(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    record_progress(folder.path, DISTILL)
    for stage in ("distill", "evaluate", "report"):
        folder.record_stage(stage, 1, 1)
    assert read_status(folder.path)["finished"]
    cli.main(["status", str(folder.path)])
    assert "200 updates" not in capsys.readouterr().out

    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    progress = json.loads((folder.path / "progress.json").read_text()) | {"time": later}
    (folder.path / "progress.json").write_text(json.dumps(progress))
    assert not read_status(folder.path)["finished"]


def test_a_search_ends_with_itself(folder: RunFolder) -> None:
    record_progress(folder.path, DISTILL._replace(stage="search"))
    folder.record_stage("report", 1, 1)
    assert not read_status(folder.path)["finished"]
    folder.record_stage("search", 1, 1)
    assert read_status(folder.path)["finished"]


def test_before_the_first_report_and_after_a_torn_line(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    record_event(folder.path, "experts: finished")
    with (folder.path / "events.jsonl").open("a") as file:
        file.write('{"time": "2026')
    status = read_status(folder.path)
    assert (
        status["stage"] == "experts"
        and status["age"] is None
        and status["last_event"]["event"] == "experts: finished"
    )
    assert cli.main(["status", str(folder.path)]) == 0


def test_nothing_is_written(folder: RunFolder) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.path.rglob("*")}
    read_status(folder.path)
    assert {file: file.stat().st_mtime_ns for file in folder.path.rglob("*")} == before


def test_what_is_no_run_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: there is no such folder; name the folder that"):
        read_status(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: .* holds no run\.json; name the folder that"):
        read_status(tmp_path / "empty")
    with pytest.raises(UserError, match=r"run\.json: a file, not the folder of a run"):
        read_status(folder.path / "run.json")
    with pytest.raises(UserError, match=f"name one of the runs in it: {folder.path.name}"):
        read_status(folder.path.parent)
    for content in ("{", "[1]", '"x"', "[" * 100_000, "\udcff"):
        (folder.path / "run.json").write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match=r"run\.json: not readable"):
            read_status(folder.path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", '{"finished": 5}'),
        ("run.json", '{"timings": {"experts": "long"}}'),
        ("run.json", '{"timings": [1]}'),
        ("progress.json", '{"stage": "distill"}'),
        ("progress.json", '{"stage": "distill", "time": "yesterday"}'),
        ("progress.json", '{"stage": "distill", "time": 5}'),
        ("events.jsonl", "no JSON\n"),
        ("events.jsonl", "[1]\n"),
        ("events.jsonl", "{}\n"),
        ("events.jsonl", "[" * 100_000 + "\n"),
        ("progress.json", '{"stage": "distill", "time": "2026-01-01T00:00:00"}'),
    ],
)
def test_altered_files_of_a_run_are_one_sentence(
    folder: RunFolder, file: str, content: str
) -> None:
    (folder.path / file).write_text(content)
    with pytest.raises(UserError, match="was altered; run the same command again"):
        read_status(folder.path)


def test_a_run_without_progress_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert cli.main(["status", str(tmp_path)]) == 0
    assert "no stage has begun, as there is no progress.json" in capsys.readouterr().out
