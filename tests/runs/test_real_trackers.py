"""MLflow with a real server on loopback, Weights & Biases offline; skipped where absent."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

# Each tracker runs in a process of its own: its package warns, and these tests make errors of that.
DRIVER = """
import json, sys
from pathlib import Path
from PIL import Image
from ltdd_ray.config.loading import load_config
from ltdd_ray.runs.tracking.trackers import Tracking

folder, tracker, first, last, end = sys.argv[1:]
config = load_config(
    "configs/demo.yaml", tracking=json.loads(tracker), name="lab/night", output=folder
)
tracking = Tracking(config, Path(folder), lambda sentence: print("SAID", sentence))
tracking.start()
for update in range(int(first), int(last) + 1):
    tracking.update(update, {"loss/total": 1 / update, "syn_lr": 0.01})
picture = Path(folder) / "sheet.png"
Image.new("RGB", (4, 4)).save(picture)
tracking.image("distilled", lambda: picture)
tracking.stage_finished("distill", 2.5)
one = {"accuracy": {"mean": 0.93}, "groups": {"few": {"mean": 0.9}}}
tracking.results({"sets": {"distilled": one}})
(Path(folder) / "results.json").write_text("{}")
tracking.end(end)
print("ID", json.loads((Path(folder) / "tracking.json").read_text()))
"""


def drive(folder: Path, tracker: dict, first: int, last: int, end: str) -> str:
    """What a run prints last that sends updates ``first`` to ``last``: its id at the tracker."""
    words = [str(folder), json.dumps(tracker), str(first), str(last), end]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "WANDB_SILENT": "true"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("mlflow.server", reason="pip install ltdd-ray[mlflow]")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination"]
    address = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *store, str(folder / "files"), "--port", str(port)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"{address}/health").close()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def ask(server: str, path: str) -> dict:
    with urllib.request.urlopen(f"{server}/api/2.0/mlflow/{path}") as answer:
        return json.load(answer)


def test_mlflow_has_one_run_after_a_stop_and_a_resumption(server: str, tmp_path: Path) -> None:
    tracker = {"mlflow": {"uri": server, "experiment": "tails"}}
    first = drive(tmp_path, tracker, 1, 3, "stopped")
    own = first.split("'")[3]
    assert ask(server, f"runs/get?run_id={own}")["run"]["info"]["status"] == "KILLED"
    assert drive(tmp_path, tracker, 3, 1500, "finished") == first

    run = ask(server, f"runs/get?run_id={own}")["run"]
    assert (run["info"]["status"], run["info"]["run_name"]) == ("FINISHED", "lab/night")
    parameters = {one["key"]: one["value"] for one in run["data"]["params"]}
    assert parameters["name"] == "lab/night" and parameters["data.source"] == "digits"
    metrics = {one["key"]: one["value"] for one in run["data"]["metrics"]}
    assert metrics["loss/total"] == pytest.approx(1 / 1500)
    assert metrics["accuracy/distilled"] == 0.93 and metrics["accuracy/distilled/few"] == 0.9
    assert metrics["seconds/distill"] == 2.5
    history = ask(
        server, f"metrics/get-history?run_id={own}&metric_key=loss/total&max_results=2000"
    )
    steps = [int(one["step"]) for one in history["metrics"]]
    assert sorted(set(steps)) == list(range(1, 1501))
    top = {one["path"] for one in ask(server, f"artifacts/list?run_id={own}")["files"]}
    assert top == {"images", "results.json"}


def test_mlflow_goes_on_in_a_new_run_where_the_old_one_is_unknown(
    server: str, tmp_path: Path
) -> None:
    (tmp_path / "tracking.json").write_text(json.dumps({"mlflow": "0" * 32}))
    said = drive(tmp_path, {"mlflow": {"uri": server}}, 1, 1, "finished")
    own = said.split("'")[3]
    assert own != "0" * 32 and ask(server, f"runs/get?run_id={own}")


def test_a_server_that_is_not_there_is_one_sentence(server: str, tmp_path: Path) -> None:
    words = [str(tmp_path), json.dumps({"mlflow": {"uri": "http://me:key@127.0.0.1:9"}})]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *words, "1", "1", "finished"], capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-1]
    assert (
        "UserError: tracking.mlflow.uri = 'http://127.0.0.1:9': the server cannot be used" in last
    )
    assert "--set tracking.mlflow=null" in last and "key" not in last
    assert time.monotonic() - began < 60


def test_wandb_offline_keeps_the_id(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install ltdd-ray[wandb]")
    tracker = {"wandb": {"mode": "offline", "project": "tails"}}
    first = drive(tmp_path, tracker, 1, 3, "stopped")
    assert drive(tmp_path, tracker, 4, 6, "finished") == first
    own = first.split("'")[3]
    runs = list((tmp_path / "wandb").glob(f"offline-run-*/run-{own}.wandb"))
    assert len(runs) == 2 and all(run.stat().st_size for run in runs)
