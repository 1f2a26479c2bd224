"""A run by `ray job submit` on a cluster of a head and three nodes, all on this machine.

    python benchmarks/three_nodes.py [--s3] [--config configs/demo.yaml] [--folder /tmp/new]

The head has no CPU, so every actor and both distillation workers are placed on the nodes, which
have two CPUs each and the addresses 127.0.0.2 to 127.0.0.4. Ray asks for a token, which is new for
each call. With --s3 a second job has its `output` in a bucket of moto's server, and the two sets
are compared. Prints the seconds of each job, from its submission to its end, and of its stages.

Linux only. It ends only processes that it started. Exits with 1 if a job failed; see its log.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyarrow import fs

from ltdd_ray.api import load_distilled
from ltdd_ray.config.loading import load_config

ROOT = Path(__file__).parent.parent
RAY = str(Path(sys.executable).with_name("ray"))
NODES, CPUS = 3, 2
APART = 6  # seconds between two nodes, since several starts at once are too much for two cores
PATIENCE = 180.0  # seconds for Ray or the server of the bucket to answer
COMPUTE = ("compute.num_actors=3", "compute.num_workers=2")
BUCKET = "s3://bucket/runs?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:"
# For all processes. Keys of the bucket come from here, never from an address.
ENVIRONMENT = {
    **{"RAY_AUTH_MODE": "token", "AWS_EC2_METADATA_DISABLED": "true"},
    **{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        servers = (socket.create_server(("127.0.0.1", 0)) for _ in range(count))
        return [stack.enter_context(server).getsockname()[1] for server in servers]


def node_command(number: int, port: int, dashboard: int, folder: Path) -> list[str]:
    """``ray start`` of the head (0) or of a node (1, 2, 3).

    Each has a folder of its own: nodes that share one unpack the files of a job over each other.
    """
    agent, metrics = free_ports(2)
    if number == 0:
        place = ["--head", f"--port={port}", f"--dashboard-port={dashboard}"]
    else:
        place = [f"--address=127.0.0.1:{port}"]
    return [
        *(RAY, "start", "--block", *place),
        *(f"--num-cpus={CPUS if number else 0}", f"--node-ip-address=127.0.0.{number + 1}"),
        *(f"--temp-dir={folder}/{number}", "--object-store-memory=100000000"),
        *(f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"),
        *("--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"),
    ]


def job_command(dashboard: int, config: str, output: str) -> list[str]:
    """``ray job submit`` of docs/cluster.md."""
    return [
        *(RAY, "job", "submit", "--address", f"http://127.0.0.1:{dashboard}"),
        *("--runtime-env", "deploy/runtime_env.yaml", "--", "python", "jobs/pipeline.py", config),
        *("--set", f"output={output}", *COMPUTE),
    ]


def wait_until(happened: Callable[[], bool], what: str, *needed: subprocess.Popen) -> None:
    """Raises ``SystemExit`` after :data:`PATIENCE`, or where one of ``needed`` has ended."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > deadline or any(one.poll() is not None for one in needed):
            raise SystemExit(f"{what}; on a busy machine Ray may not start within its 30 s")
        time.sleep(0.5)


@contextmanager
def cluster(folder: Path) -> Iterator[int]:
    """The port of the dashboard, once all nodes have joined."""
    port, dashboard = free_ports(2)
    nodes: list[subprocess.Popen] = []
    with ExitStack() as stack:
        for number in range(NODES + 1):
            command = node_command(number, port, dashboard, folder)
            log = stack.enter_context((folder / f"node{number}.log").open("w"))
            nodes.append(subprocess.Popen(command, stdout=log, stderr=log))
            stack.callback(end, nodes[-1])
            if number == 0:
                wait_until(lambda: alive(dashboard) == 1, "the head does not answer", *nodes)
            elif number < NODES:
                time.sleep(APART)
        wait_until(lambda: alive(dashboard) == NODES + 1, "not all nodes have joined", *nodes)
        yield dashboard


def end(process: subprocess.Popen) -> None:
    """SIGTERM to `ray start --block` ends all processes of its node."""
    process.terminate()
    process.wait(PATIENCE)


def alive(dashboard: int) -> int:
    """How many nodes the head knows; 0 while it does not answer."""
    headers = {"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
    asked = urllib.request.Request(f"http://127.0.0.1:{dashboard}/api/v0/nodes", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
    except OSError:
        return 0
    return sum(node["state"] == "ALIVE" for node in nodes)


@contextmanager
def bucket() -> Iterator[str]:
    """The address of a folder in an empty bucket."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), "the server of the bucket does not answer", server)
        there = {"scheme": "http", "region": "us-east-1", "endpoint_override": f"127.0.0.1:{port}"}
        fs.S3FileSystem(**there, allow_bucket_creation=True).create_dir("bucket")
        yield f"{BUCKET}{port}"
    finally:
        end(server)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def submit(title: str, dashboard: int, config: str, output: str, folder: Path) -> str:
    """Run one job, print its seconds, and return the place of its run."""
    log, began = folder / f"{title}.log", time.monotonic()
    with log.open("w") as file:
        code = subprocess.run(
            job_command(dashboard, config, output), cwd=ROOT, stdout=file, stderr=file
        ).returncode
    seconds = time.monotonic() - began
    if code:
        raise SystemExit(f"{title}: the job ended with {code} after {seconds:.0f} s; see {log}")
    loaded = load_config(ROOT / config, [f"output={output}", *COMPUTE])
    place = loaded.address or str(loaded.folder)
    asked = [sys.executable, "-m", "ltdd_ray", "status", place, "--json"]
    status = json.loads(subprocess.run(asked, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    parts = ", ".join(f"{stage} {took:.1f}" for stage, took in status["stages"].items())
    print(f"{title}: {seconds:.0f} s ({parts})", flush=True)
    return place


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/demo.yaml", help="relative to the checkout")
    parser.add_argument(
        "--folder", type=Path, help="for runs, logs and Ray; its name must be short"
    )
    parser.add_argument("--s3", action="store_true", help="also with `output` in a bucket")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="ltdd3-", dir="/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the nodes end, too
    os.environ.update(ENVIRONMENT, RAY_AUTH_TOKEN=secrets.token_hex(32))
    # The `python` of a job is the first on the path of its node.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ.pop("PYTHONPATH", None)  # a job imports the package from the files that it was sent
    with cluster(folder) as dashboard:
        print(f"a head and {NODES} nodes of {CPUS} CPUs", flush=True)
        place = submit("folder", dashboard, args.config, f"{folder}/runs", folder)
        if args.s3:
            with bucket() as address:
                remote = submit("bucket", dashboard, args.config, address, folder)
                one, two = load_distilled(place), load_distilled(remote)
            same = one.images.equal(two.images) and one.soft_labels.equal(two.soft_labels)
            print(f"the two sets are {'equal to the last bit' if same else 'not the same'}")
    if not args.folder:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
