"""`ray job submit` to a real head on loopback: a job fails, is stopped, resumes, is followed."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config
from ltdd_ray.runs.status import read_status

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PATIENCE = 240.0  # seconds


def wait_until(happened: Callable[[], bool], alive: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert alive() and time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Head:
    """A head node with two CPUs. Its jobs import this package from their working directory."""

    def __init__(self, folder: str) -> None:
        port, dashboard, self.metrics, agent = free_ports(4)
        self.address = f"http://127.0.0.1:{dashboard}"
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RAY_metrics_report_interval_ms": "500",
        }
        self.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment.pop("PYTHONPATH", None)
        ports = [
            f"--port={port}",
            f"--dashboard-port={dashboard}",
            f"--metrics-export-port={self.metrics}",
        ]
        ports.append(
            f"--dashboard-agent-listen-port={agent}"
        )  # its default may be taken by the Ray of the other tests
        here = [
            "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1",
            f"--temp-dir={folder}",
            "--disable-usage-stats",
        ]
        size = ["--num-cpus=2", "--object-store-memory=100000000"]
        self.process = subprocess.Popen(
            [BIN / "ray", "start", "--head", "--block", *ports, *here, *size], env=self.environment
        )

    def client(self) -> JobSubmissionClient:
        """Raises ``ConnectionError`` while the head is starting."""
        return JobSubmissionClient(
            self.address, headers={"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        )

    def submit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command of docs/cluster.md."""
        command = [
            "ray",
            "job",
            "submit",
            "--address",
            self.address,
            "--runtime-env",
            "deploy/runtime_env.yaml",
            *arguments,
        ]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


def takes_jobs(head: Head) -> bool:
    """A head that answers may still lack the agent that starts jobs."""
    try:
        head.client().submit_job(entrypoint="true")
    except (ConnectionError, RuntimeError):
        return False
    return True


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = tempfile.mkdtemp(prefix="ray-")  # pytest's own folders are too long for Ray's sockets
    head = Head(folder)
    try:
        wait_until(lambda: takes_jobs(head), alive=lambda: head.process.poll() is None)
        yield head
    finally:
        head.process.terminate()
        head.process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_failing_job_prints_the_error_and_fails(head: Head) -> None:
    ended = head.submit("--submission-id", "failing", "--", "python", "jobs/search.py", "none.yaml")
    assert ended.returncode == 1 and "error: none.yaml: no such config file" in ended.stdout
    assert head.client().get_job_info("failing").driver_exit_code == 1


def test_a_stopped_job_is_resumed_by_submitting_it_again(
    head: Head, tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny(
        tmp_path / "runs",
        experts={"count": 4, **tiny(tmp_path).experts.model_dump(exclude={"count"})},
    )
    file, client = tmp_path / "tiny.yaml", head.client()
    file.write_text(dump_config(config))
    command = ["--", "python", "jobs/pipeline.py", str(file)]

    assert head.submit("--no-wait", "--submission-id", "first", *command).returncode == 0
    wait_until(lambda: len(list((config.folder / "experts").glob("*.json"))) >= 2)
    client.stop_job("first")
    wait_until(lambda: client.get_job_status("first").is_terminal())
    assert client.get_job_status("first") == JobStatus.STOPPED
    before = {
        manifest: manifest.stat().st_mtime_ns
        for manifest in (config.folder / "experts").glob("*.json")
    }
    assert not read_status(config.folder)["finished"]

    assert head.submit("--no-wait", "--submission-id", "second", *command).returncode == 0
    wait_until(
        lambda: (
            "ltdd_stage_rate"
            in urllib.request.urlopen(f"http://127.0.0.1:{head.metrics}/metrics").read().decode()
        )
    )
    followed = subprocess.run(
        ["ray", "job", "logs", "--follow", "--address", head.address, "second"],
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    assert "distill: finished in" in followed and str(config.folder / "report.html") in followed
    assert (
        client.get_job_info("second").driver_exit_code == 0
        and read_status(config.folder)["finished"]
    )
    assert {manifest: manifest.stat().st_mtime_ns for manifest in before} == before, (
        "experts were trained again"
    )
