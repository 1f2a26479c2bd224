import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ltdd_ray.cli import main as cli
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.runs import heartbeat
from ltdd_ray.runs.events import (
    STOPPED,
    LossNote,
    RecordingOutput,
    record_event,
    record_progress,
)
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.heartbeat import HEARTBEAT, Heartbeat
from ltdd_ray.runs.output import TextOutput
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


def shown_first(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["status", str(folder.path)]) == 0
    return capsys.readouterr().out.splitlines()[0].removeprefix(f"{folder.path}: ")


def write_beat(folder: RunFolder, seconds_ago: float, waits_for: str | None = None) -> None:
    at = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="seconds")
    since = (datetime.now(UTC) - timedelta(seconds=seconds_ago + 12)).isoformat(timespec="seconds")
    beat = {"time": at, "waits_for": waits_for, "since": since if waits_for else None}
    (folder.path / HEARTBEAT).write_text(json.dumps(beat))


def test_a_beat_tells_that_a_run_goes_on_and_what_it_waits_for(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    write_beat(folder, 0)
    assert shown_first(folder, capsys) == "running"
    write_beat(folder, 2, "Ray Train's workers")
    assert shown_first(folder, capsys) in [
        f"running, waits for Ray Train's workers since {seconds} s" for seconds in range(13, 30)
    ]
    write_beat(folder, 90, "Ray")
    beat = json.loads((folder.path / HEARTBEAT).read_text())["time"]
    assert (
        shown_first(folder, capsys) == f"no sign of life since {beat}; the same command continues"
    )
    record_progress(folder.path, DISTILL)
    folder.record_stage("report", 1, 1)
    assert shown_first(folder, capsys) == "finished"
    write_beat(folder, 0)  # the same command again
    assert shown_first(folder, capsys) == "running" and read_status(folder.path)["finished"]


def test_a_stopped_run_says_so_until_it_goes_on(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    record_event(folder.path, STOPPED)
    assert shown_first(folder, capsys) == "stopped; the same command continues"
    record_event(folder.path, "experts: already finished")
    assert shown_first(folder, capsys) == "not finished"


def test_losses_are_summed_over_the_stages(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder.path / "events.jsonl").open("a") as file:
        file.write('{"time": "2026{"time": "a line that was torn, and the next one"}\n')
    heard: list[tuple[str, str]] = []
    output = RecordingOutput(
        TextOutput(quiet=True), folder.path, lambda: (), lambda *loss: heard.append(loss)
    )
    output.say("experts", "no loss")
    assert read_status(folder.path)["losses"] == {"incidents": 0, "actors": 0, "preempted": 0}
    cli.main(["status", str(folder.path)])
    assert "losses so far" not in capsys.readouterr().out
    output.say("experts", LossNote("lost one", incidents=1))
    output.say("experts", LossNote("lost one more"))
    output.say("distill", LossNote("lost three", actors=3, preempted=3))
    assert read_status(folder.path)["losses"] == {"incidents": 1, "actors": 5, "preempted": 3}
    assert read_status(folder.path)["last_event"]["event"] == "distill: lost three"
    assert heard == [
        ("experts", "lost one"),
        ("experts", "lost one more"),
        ("distill", "lost three"),
    ]
    cli.main(["status", str(folder.path)])
    told = "losses so far: 5 actors or workers, in 1 incidents that count, 3 of them by preemption"
    assert told in capsys.readouterr().out


def test_the_heart_beats_within_the_block_only(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_BEATS", 0.01)
    file = folder.path / HEARTBEAT
    debris = folder.path / f".{HEARTBEAT}.0123.tmp"  # of a process that was killed
    debris.touch()

    def wait_until(waits_for: str | None) -> None:
        deadline = time.monotonic() + 60
        while not file.exists() or json.loads(file.read_text())["waits_for"] != waits_for:
            assert time.monotonic() < deadline, f"no beat told of {waits_for}"
            time.sleep(0.005)

    for _ in range(2):
        with Heartbeat(folder.path) as beat:
            wait_until(None)
            assert not debris.exists() and read_status(folder.path)["state"] == "running"
            beat.waits_for("Ray")
            wait_until("Ray")
            since = read_status(folder.path)["since"]
            beat.waits_for("Ray")  # it waits on, since the same moment
            assert since and read_status(folder.path)["since"] == since
            beat.waits_for(None)
            wait_until(None)
        assert not file.exists()
    with pytest.raises(KeyboardInterrupt), Heartbeat(folder.path):
        wait_until(None)
        raise KeyboardInterrupt
    assert not file.exists() and read_status(folder.path)["state"] == "not finished"


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
        ("events.jsonl", '{"losses": 5}\n{"time": "x", "event": "y"}\n'),
        ("heartbeat.json", '{"time": "noon"}'),
        ("heartbeat.json", '{"time": "2999-01-01T00:00:00+00:00", "waits_for": "x"}'),
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
