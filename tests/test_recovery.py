"""Resuming after kill -9 of an actor, Train worker or driver gives the same set, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltdd_ray.cluster import experts as pool
from ltdd_ray.cluster import trajectory as job
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.runs.output import JsonOutput
from ltdd_ray.runs.status import read_status
from ltdd_ray.store import TrajectoryStore
from ltdd_ray.workflows.pipeline import run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
Tiny = Callable[..., RunConfig]
PATIENCE = 240.0  # seconds; a driver takes 50 alone on two slow cores


@pytest.fixture(scope="module")
def undisturbed(
    tiny: Tiny, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> RunConfig:
    """The config of a finished run without any failure."""
    config = tiny(tmp_path_factory.mktemp("undisturbed"))
    run(config, ("experts", "distill"))
    return config


def distilled_bytes(config: RunConfig) -> bytes:
    return (config.folder / "distilled" / "distilled.safetensors").read_bytes()


def checkpointed(config: RunConfig) -> Path:
    """The file in which Ray Train lists its checkpoints."""
    return config.folder / "distilled" / "checkpoints" / "checkpoint_manager_snapshot.json"


def wait_until(happened: Callable[[], bool], alive: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert alive() and time.monotonic() < deadline, "the awaited event did not happen"
        time.sleep(0.01)


def test_stages_one_after_another(
    undisturbed: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run(undisturbed, ("experts", "distill", "evaluate", "report"))
    said = capsys.readouterr().out
    assert (
        "experts: already finished" in said
        and "distill: already finished" in said
        and "evaluate: finished in" in said
    )
    assert "LTDD" in said and "Random" in said and str(undisturbed.folder / "report.html") in said
    results = json.loads((undisturbed.folder / "results.json").read_text())
    assert (
        len(results["accuracy"]["runs"]) == len(results["random_baseline"]["accuracy"]["runs"]) == 2
    )
    assert {"experts", "distill", "evaluate"} <= set(results["timings"])

    (undisturbed.folder / "evaluation" / "random-1.json").unlink()
    before = {
        file: file.stat().st_mtime_ns for file in (undisturbed.folder / "evaluation").iterdir()
    }
    run(undisturbed, ("evaluate", "report"))
    assert {file: file.stat().st_mtime_ns for file in before} == before, (
        "finished networks were evaluated again"
    )
    again = json.loads((undisturbed.folder / "results.json").read_text())
    assert again["random_baseline"]["accuracy"] == results["random_baseline"]["accuracy"]

    capsys.readouterr()
    run(undisturbed, ("experts", "distill", "evaluate", "report"))
    assert capsys.readouterr().out.count("already finished") == 4
    run(undisturbed, ("experts", "distill", "evaluate", "report"), JsonOutput())
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["stage"] * 4 + ["results"]
    assert events[-1]["path"] == str(undisturbed.folder / "results.json")
    assert "## Results" in (undisturbed.folder / "distilled" / "README.md").read_text()


def test_killed_actor(
    undisturbed: RunConfig, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck = tmp_path / "struck"

    def fragile(config: RunConfig, data: Any, expert: int, on_epoch: Callable[[Any], None]) -> None:
        from ltdd_ray.experts.expert import run_expert

        def strike(report: Any) -> None:
            on_epoch(report)
            if report.stage == "classifier" and not struck.exists():
                struck.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        run_expert(config, data, expert, strike)

    monkeypatch.setattr(pool, "run_expert", fragile)
    config = tiny(tmp_path)
    run(config, ("experts", "distill"))
    assert struck.exists()
    assert read_status(config.folder)["losses"] == {"incidents": 1, "actors": 1, "preempted": 0}
    found, expected = (TrajectoryStore.open(c.store_uri) for c in (config, undisturbed))
    assert found.verify() == []
    for expert in range(config.experts.count):
        for stage in ("representation", "classifier"):
            assert found.epochs(expert, stage) == expected.epochs(expert, stage)
            for epoch in expected.epochs(expert, stage):
                for ours, theirs in zip(
                    found.read(expert, stage, epoch), expected.read(expert, stage, epoch)
                ):
                    assert (ours is theirs is None) or (
                        ours is not None and theirs is not None and ours.equal(theirs)
                    )
    assert distilled_bytes(config) == distilled_bytes(undisturbed)


def test_killed_train_worker(
    undisturbed: RunConfig, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck = tmp_path / "struck"
    config = tiny(
        tmp_path, experts={**undisturbed.experts.model_dump(), "store": undisturbed.store_uri}
    )
    noted = checkpointed(config)

    def fragile(task: dict[str, Any]) -> Any:
        from ltdd_ray.cluster import trajectory as job

        plain = job.distill

        def striking(
            config: RunConfig, data: Any, *, on_update: Callable, rank: int, **settings: Any
        ) -> Any:
            def strike(report: Any, synthetic: Any) -> None:
                on_update(report, synthetic)
                if rank == 0 and report.update == 5 and not struck.exists():
                    while not noted.exists():  # Train lists a checkpoint after it was reported
                        time.sleep(0.01)
                    struck.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

            if struck.exists():
                assert settings["resume_from"] is not None
            return plain(config, data, on_update=strike, rank=rank, **settings)

        job.distill = striking
        return loop(task)

    loop = job._train_worker
    monkeypatch.setattr(job, "_train_worker", fragile)
    run(config, ("distill",))
    assert struck.exists()
    assert read_status(config.folder)["losses"]["incidents"] == 1
    assert distilled_bytes(config) == distilled_bytes(undisturbed)
    history = [
        json.loads(line)
        for line in (config.folder / "distilled" / "history.jsonl").read_text().splitlines()
    ]
    assert [record["update"] for record in history] == list(range(1, 13))


@pytest.mark.timeout(600)  # three drivers, one after the other
def test_killed_driver(undisturbed: RunConfig, tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path, compute={"num_cpus": 2})
    file = tmp_path / "tiny.yaml"
    file.write_text(dump_config(config))
    stages = "('experts', 'distill')"
    imports = "from ltdd_ray.config.loading import *; from ltdd_ray.workflows.pipeline import *"
    code = f"{imports}; run(load_config({str(file)!r}), {stages})"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code])

    def kill_when(driver: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
        wait_until(happened, alive=lambda: driver.poll() is None)
        driver.kill()
        driver.wait()

    kill_when(start(), lambda: bool(list((config.folder / "experts").glob("*.json"))))
    kill_when(start(), checkpointed(config).exists)
    assert not (config.folder / "distilled" / "distilled.safetensors").exists()
    assert start().wait(PATIENCE) == 0
    assert distilled_bytes(config) == distilled_bytes(undisturbed)


def test_a_job_with_a_non_finite_loss_is_not_restarted(
    undisturbed: RunConfig, tiny: Tiny, tmp_path: Path
) -> None:
    """Tested with workers that share batches; their first update equals that of the default."""
    settings = {**undisturbed.distill.model_dump(), "lr_image": 1e30, "largest_image_step": 1e30}
    experts = {**undisturbed.experts.model_dump(), "store": undisturbed.store_uri}
    config = tiny(tmp_path, experts=experts, distill=settings, compute={"parallel": "batch"})
    heard: list[Any] = []
    with pytest.raises(NonFiniteLossError, match="expert"):
        job.run_job(config, prepare_data(config), heard.append)
    updates = [report.update for report in heard if not isinstance(report, str)]
    assert updates and updates == list(range(1, len(updates) + 1)), (
        "the job was restarted, or reports were lost"
    )
    found, first = (
        json.loads((c.folder / "distilled" / "history.jsonl").read_text().splitlines()[0])
        for c in (config, undisturbed)
    )
    for name in ("loss/total", "grad_norm/images", "grad_norm/labels", "grad_norm/log_lr"):
        assert found[name] == pytest.approx(first[name], rel=1e-4), name
