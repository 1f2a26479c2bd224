import io
import re
import time

import pytest
from rich.console import Console

from ltdd_ray.runs import progress
from ltdd_ray.runs.progress import Meter, StageProgress, StageState


def test_lines_without_a_terminal_tell_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    out = io.StringIO()
    with StageProgress("experts", 40, "epochs", Console(file=out)) as stage:
        for epoch in range(1, 4):
            stage.update("a", epoch, f"epoch {epoch}")
            stage.update("b", 10 * epoch, "of b")
        stage.update("b", 0, "b begins anew, " + 20 * "which is long")
    # The reminder may have printed too.
    lines = [line for line in out.getvalue().splitlines() if "update" not in line]
    assert re.fullmatch(r"experts: 33/40 [\d.]+ epochs/s, 0:00:0\d left; of b", lines[-2])
    assert lines[-1].startswith("experts: 3/40 ") and lines[-1].endswith("which is long")


def test_lines_go_on_while_there_is_no_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", 0.01)
    out = io.StringIO()

    def wait_for(line: str) -> None:
        deadline = time.monotonic() + 60
        while not re.search(line, out.getvalue(), re.MULTILINE):
            assert time.monotonic() < deadline, f"no line {line!r} in {out.getvalue()!r}"
            time.sleep(0.005)

    with StageProgress("distill", 40, "updates", Console(file=out)) as stage:
        wait_for(r"^distill: 0/40 updates; no update yet after \d+ s$")
        stage.update("a", 1, "loss 0.5")
        wait_for(r"^distill: 1/40 .*; last update \d+ s ago$")
    length = len(out.getvalue())
    time.sleep(0.1)
    assert len(out.getvalue()) == length, "lines after the end"


def test_few_lines_in_a_log() -> None:
    out = io.StringIO()
    with StageProgress("experts", 1000, "epochs", Console(file=out)) as stage:
        for epoch in range(1000):
            stage.update("a", epoch, "")
    assert out.getvalue() == ""


def test_listeners_hear_the_beginning_the_end_and_little_between() -> None:
    heard: list[StageState] = []
    shown = StageProgress("distill", 1000, "updates", Console(file=io.StringIO()))
    with shown, Meter(shown, "distill", 1000, "updates", [heard.append]) as meter:
        for update in range(1, 1001):
            meter.update("updates", update, f"update {update}")
    assert heard[0] == StageState("distill", 0, 1000, "updates", None, "") and 2 <= len(heard) <= 3
    assert heard[-1].done == 1000 and heard[-1].note == "update 1000" and heard[-1].rate


def test_a_bar_on_a_terminal() -> None:
    out = io.StringIO()
    with StageProgress(
        "distill", 2, "updates", Console(file=out, force_terminal=True, width=120)
    ) as stage:
        stage.update("a", 1, "loss 0.5")
        stage.update("a", 2, "loss 0.4")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "distill" in shown and "━" in shown and "2/2" in shown and "loss 0.4" in shown
