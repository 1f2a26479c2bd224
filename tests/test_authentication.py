"""The commands of docs/cluster.md start a head that answers nobody without the token.

A real head on loopback, with an empty home folder.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_jobs import BIN, free_ports, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
COMMAND = "ray get-auth-token --generate > /dev/null && chmod 600 ~/.ray/auth_token"


def answer(url: str, token: str | None = None, body: dict[str, str] | None = None) -> int:
    """The HTTP status of a request; 0 while nobody listens."""
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if body:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """An environment with an empty home folder and no setting of Ray."""
    home = tempfile.mkdtemp(prefix="h-")  # pytest's own folders are too long for Ray's sockets
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    clean.pop("PYTHONPATH", None)
    yield {**clean, "HOME": home, "PATH": f"{BIN}:{os.environ['PATH']}"}
    shutil.rmtree(home, ignore_errors=True)


def start_head(environment: dict[str, str]) -> tuple[subprocess.Popen, str]:
    port, dashboard, metrics, agent = free_ports(4)
    command = f"""ray start --head --block --disable-usage-stats --num-cpus=1 --port={port}
        --dashboard-port={dashboard} --metrics-export-port={metrics}
        --dashboard-agent-listen-port={agent} --node-ip-address=127.0.0.1
        --dashboard-host=127.0.0.1 --object-store-memory=100000000
        --temp-dir={environment["HOME"]}/r"""
    head = subprocess.Popen(command.split(), env=environment)
    return head, f"http://127.0.0.1:{dashboard}/api/jobs/"


def test_without_a_token_the_head_does_not_start(environment: dict[str, str]) -> None:
    head, _ = start_head({**environment, "RAY_AUTH_MODE": "token"})
    try:
        assert head.wait(60) != 0
    finally:
        head.kill()


def test_the_head_answers_only_with_the_token(environment: dict[str, str]) -> None:
    subprocess.run(["bash", "-c", COMMAND], env=environment, check=True)
    file = Path(environment["HOME"]) / ".ray" / "auth_token"
    token = file.read_text().strip()
    assert file.stat().st_mode & 0o077 == 0
    head, url = start_head({**environment, "RAY_AUTH_MODE": "token"})
    try:
        wait_until(lambda: answer(url, token) == 200, alive=lambda: head.poll() is None)
        job = {"entrypoint": f"{sys.executable} -c 1", "submission_id": "tiny"}
        assert answer(url) == 401 and answer(url, body=job) == 401
        assert answer(url, "0" * len(token)) in (401, 403)
        assert answer(url + "tiny", token) == 404, "a refused job was kept"
        wait_until(lambda: answer(url, token, job) == 200)
        assert finished(url + "tiny", token) == "SUCCEEDED"
    finally:
        head.terminate()
        head.wait(60)


def finished(url: str, token: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = json.load(urllib.request.urlopen(request, timeout=20))["status"]
        if status in ("SUCCEEDED", "FAILED", "STOPPED"):
            return status
        time.sleep(0.2)
    raise AssertionError("the job did not end")
