"""deploy/slurm.sh, run from its first line to its last with stand-ins for Slurm's two commands.

What it cannot show: allocation, GPUs, two machines. Both "nodes" are on this one. A real Slurm
runs the script in benchmarks/slurm_run.py.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_jobs import BIN, free_ports

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
ROOT = Path(__file__).parent.parent
NODES = 2
# `srun` runs a command once for each node of the job, or on the one node that it is given. At its
# end all processes of the step get a SIGTERM; `set -m` gives each node's a group of their own.
COMMANDS = {
    "scontrol": "echo 127.0.0.1; echo 127.0.0.1",
    "hostname": "echo 127.0.0.1 ::1",
    "srun": """
while [[ $1 = --* ]]; do [[ $1 = --nodes=1 ]] && alone=1; shift; done
[ "$alone" ] && exec "$@"
set -m
trap 'for node in $(jobs -p); do kill -- -"$node"; done; wait; exit 143' TERM
for SLURM_NODEID in $(seq 0 $((SLURM_NNODES - 1))); do
    export SLURM_NODEID
    "$@" &
done
wait
""",
}


@pytest.fixture
def place() -> Iterator[Path]:
    """The working directory, home folder and temporary folder of the job."""
    folder = Path(tempfile.mkdtemp(prefix="s-"))  # pytest's own are too long for Ray's sockets
    for name, text in COMMANDS.items():
        file = folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{text}")
        file.chmod(0o755)
    activate = folder / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'export PATH="{folder}/bin:{BIN}:$PATH"\n')
    (folder / ".venv" / "bin" / "ltdd-ray").touch()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def environment_of(place: Path) -> dict[str, str]:
    """What Slurm and the user's shell give to the script."""
    (port,) = free_ports(1)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {"HOME": str(place), "RAY_TMPDIR": str(place / "r"), "PYTHONPATH": str(ROOT)}
    environment |= {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": str(NODES)}
    return environment | {"SLURM_CPUS_ON_NODE": "1", "SLURM_JOB_ID": str(port % 10_000)}


def test_it_starts_a_cluster_with_a_token_runs_and_ends_it(place: Path) -> None:
    # In place of a run: what would run it says what it was given, and looks at the cluster.
    (place / "bin" / "ltdd-ray").write_text(
        f"""#!{BIN / "python"}
import os, sys, ray
print("run with", sys.argv[1:-1], os.environ["RAY_AUTH_MODE"])
ray.init(address=sys.argv[-1].removeprefix("compute.address="), logging_level="ERROR")
print("nodes", len(ray.nodes()), "CPUs", ray.cluster_resources()["CPU"])
"""
    )
    (place / "bin" / "ltdd-ray").chmod(0o755)
    command = ["bash", ROOT / "deploy" / "slurm.sh", "demo.yaml", "--set", "output=/shared/runs"]
    done = subprocess.run(
        command, cwd=place, env=environment_of(place), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    given = ["run", "demo.yaml", "--set", "output=/shared/runs"]
    assert f"run with {given} token" in done.stdout and "nodes 2 CPUs 2.0" in done.stdout
    token = place / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o077 == 0 and len(token.read_text().strip()) >= 32
    assert not _mentioned(place), "processes of the cluster are left over"


def test_a_node_that_does_not_start_ends_the_job_after_ten_minutes(place: Path) -> None:
    """The head of this one starts nothing, and the other node waits for it."""
    (place / "bin" / "ray").write_text(
        f"""#!/usr/bin/env bash
[ "$1" = health-check ] && exit 1
[ "$1" = start ] && exec -a "{place}" sleep 300
exec {BIN / "ray"} "$@"
"""
    )
    (place / "bin" / "ray").chmod(0o755)
    environment = {**environment_of(place), "SECONDS": "601"}  # bash counts on from there
    command = ["bash", ROOT / "deploy" / "slurm.sh", "demo.yaml"]
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1 and "run with" not in done.stdout
    assert "only 0 of 2 nodes have started Ray after ten minutes" in done.stderr
    assert not _mentioned(place), "processes of the cluster are left over"


def _mentioned(place: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_text(errors="replace")
        except OSError:
            continue
        if str(place) in line:
            found.append(line)
    return found
