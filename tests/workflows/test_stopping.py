"""A stopped run says so in its status."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config
from ltdd_ray.runs.status import read_status, show_status
from ltdd_ray.workflows import pipeline


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (False, "stopped; the same command continues"),
        (True, "stopped; submit again to resume"),
    ],
)
def test_an_interrupted_run_leaves_an_event(
    tiny: Callable[..., RunConfig],
    job: bool,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "ray_session", lambda *_: nullcontext())
    monkeypatch.setattr(pipeline, "require_workers", lambda *_: None)
    monkeypatch.setattr(pipeline, "_work", interrupted)
    monkeypatch.setattr(pipeline, "inside_job", lambda: job)
    config = tiny(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config, ["experts", "distill"])
    status = read_status(config.folder)
    assert status["last_event"]["event"] == told
    assert not status["finished"] and status["state"] == "stopped"
    capsys.readouterr()
    show_status(config.folder, as_json=False)
    assert capsys.readouterr().out.splitlines()[0].endswith(f": {told}")


def test_a_process_that_gets_sigterm_beats_until_then_and_leaves_the_event(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """The command itself, as `ray job stop` ends it, without Ray and without its work."""
    config, file = tiny(tmp_path), tmp_path / "tiny.yaml"
    file.write_text(dump_config(config))
    code = f"""
import sys, time
from contextlib import nullcontext
from ltdd_ray.cli.main import main
from ltdd_ray.workflows import pipeline

def work(run, name):
    with run.output.progress(name, 9, "epochs"):
        time.sleep(600)

pipeline.ray_session = lambda *_: nullcontext()
pipeline.require_workers = lambda *_: None
pipeline._work = work
sys.exit(main(["run", {str(file)!r}]))
"""
    beat, deadline = config.folder / "heartbeat.json", time.monotonic() + 240
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            while not (beat.exists() and read_status(config.folder)["since"]):
                assert process.poll() is None and time.monotonic() < deadline, "it did not begin"
                time.sleep(0.05)
            status = read_status(config.folder)
            assert status["state"] == "running" and status["waits_for"] in ("Ray", "Ray's actors")
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 143 and "terminated; the same command resumes" in told
    status = read_status(config.folder)
    assert status["state"] == "stopped"
    assert status["last_event"]["event"] == "stopped; the same command continues"
    assert not beat.exists()
