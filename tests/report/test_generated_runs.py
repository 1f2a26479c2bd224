"""The files of a run, altered at random: every reader answers, or says one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from generatedkit import altered, generated
from hypothesis import given
from hypothesis import strategies as st
from reportkit import INFORMATION, results, write_run

from ltdd_ray.common.errors import UserError
from ltdd_ray.export.card import write_card
from ltdd_ray.report.finished import fitting_files
from ltdd_ray.report.page import write_report
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.runs.status import show_status

EVENT = {"time": "2026-01-01T00:00:00+00:00", "event": "experts: finished"}
PROGRESS = {
    **{"time": "2026-01-01T00:00:00+00:00", "stage": "distill", "done": 3, "total": 5},
    **{"unit": "updates", "rate": 0.5, "note": ""},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "trial")


def answers(read: Callable[[], object]) -> None:
    try:
        read()
    except UserError as error:
        assert "\n" not in str(error)


@generated(25)
@given(data=st.data())
def test_any_results(folder: Path, data: st.DataObject) -> None:
    content = altered(data, results())
    (folder / "results.json").write_text(json.dumps(content))
    answers(lambda: write_report(folder))
    answers(lambda: write_card(folder / "distilled" / "distilled.safetensors"))

    def shown() -> None:
        with fitting_files(folder):
            TextOutput(quiet=True).results(content, "results.json")

    answers(shown)


@generated(40)
@given(data=st.data(), file=st.sampled_from(["run.json", "progress.json", "events.jsonl"]))
def test_any_state(folder: Path, data: st.DataObject, file: str) -> None:
    state = {"run.json": INFORMATION | {"finished": {"distill": "2026-01-01T00:00:00+00:00"}}}
    state |= {"progress.json": PROGRESS, "events.jsonl": EVENT}
    state[file] = altered(data, state[file])
    for name, content in state.items():
        (folder / name).write_text(json.dumps(content) + "\n")
    answers(lambda: show_status(folder, as_json=False))
    RunFolder(folder).record_stage("distill", 1.0, 2)
    assert RunFolder(folder).information()["timings"]["distill"] == 1.0


@generated(25)
@given(
    content=st.binary(max_size=30) | st.just(b"[" * 100_000),
    file=st.sampled_from(
        ["run.json", "progress.json", "events.jsonl", "results.json", "distilled/history.jsonl"]
    ),
)
def test_any_bytes(folder: Path, content: bytes, file: str) -> None:
    before = (folder / file).read_bytes() if (folder / file).exists() else b"{}"
    (folder / file).write_bytes(content + b"\n")
    answers(lambda: show_status(folder, as_json=False))
    answers(lambda: write_report(folder))
    (folder / file).write_bytes(before)
