"""``deploy/slurm.sh`` under a Slurm of this machine: cancelled, requeued, and run to its report.

    sudo apt install slurm-wlm munge
    sudo .venv/bin/python benchmarks/slurm_run.py [--config configs/demo.yaml] [--folder /tmp/new]

Starts Munge, slurmctld and two slurmd, all on this machine and with files in one new folder. The
config is submitted as docs/cluster.md says. The first job is cancelled in its distillation, and a
second one is requeued in it and must finish. Prints what `ltdd-ray status` says and the seconds.

Slurm's daemons need root and an address besides loopback (`sudo ip addr add 10.9.9.1/24 dev lo`
gives one). Two cores are shared by two nodes here, so the times tell little. It ends only processes
that it started. Exits with 1 if a step did not go as it should.
"""

import argparse
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from three_nodes import end, free_ports

from ltdd_ray.config.loading import load_config

ROOT = Path(__file__).parent.parent
NODES, CPUS, MEMORY = 2, 2, 4  # MEMORY: GiB of a node
COMPUTE = ("compute.num_actors=2", "compute.num_workers=2")
# In place of changed `#SBATCH` lines: sbatch prefers its own options.
SIZE = (f"--nodes={NODES}", "--gpus-per-node=0", f"--cpus-per-task={CPUS}", f"--mem={MEMORY}G")
PATIENCE = 900.0  # seconds for a job to reach a point; Slurm itself holds a requeued one for some


def slurm_conf(folder: Path, host: str, user: str, ports: list[int]) -> str:
    """``slurm.conf`` of one controller and :data:`NODES` nodes, which are all ``host``.

    Without cgroups, so any machine will do; Slurm finds a job's processes by their parents.
    ``cred_expire`` shortens the time for which a requeued job is held.
    """
    control, *nodes = ports
    lines = [
        "ClusterName=ltdd",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={control}",
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge.socket,cred_expire=20",
        *(f"SlurmUser={user}", f"SlurmdUser={user}"),
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool-%n",
        *(f"SlurmctldPidFile={folder}/slurmctld.pid", f"SlurmdPidFile={folder}/slurmd-%n.pid"),
        *("ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "MpiDefault=none"),
        *("SelectType=select/cons_tres", "SelectTypeParameters=CR_Core_Memory"),
        "SlurmdParameters=config_overrides",  # so many CPUs and so much memory in any case
    ]
    for number, port in enumerate(nodes, 1):
        place = f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        lines.append(f"{place} CPUs={CPUS} RealMemory={MEMORY * 1024}")
    return "\n".join([*lines, "PartitionName=all Nodes=ALL Default=YES State=UP", ""])


def submit_command(config: str, output: str) -> list[str]:
    """``sbatch`` of docs/cluster.md."""
    run = ["deploy/slurm.sh", config, "--set", f"output={output}", *COMPUTE]
    return ["sbatch", "--parsable", *SIZE, *run]


def ask(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, check=True, text=True).stdout


def wait_until(happened: Callable[[], bool], what: str, patience: float = PATIENCE) -> float:
    """The seconds until ``happened``. Raises ``SystemExit`` after ``patience``."""
    began = time.monotonic()
    while not happened():
        if time.monotonic() - began > patience:
            raise SystemExit(f"{what} within {patience:.0f} s")
        time.sleep(0.5)
    return time.monotonic() - began


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Run Slurm's daemons; its commands find them through ``SLURM_CONF``."""
    key, conf = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    user, ports = pwd.getpwuid(os.getuid()).pw_name, free_ports(NODES + 1)
    conf.write_text(slurm_conf(folder, socket.gethostname(), user, ports))
    os.environ["SLURM_CONF"] = str(conf)
    (folder / "state").mkdir()
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    commands = [["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge]]
    commands.append(["slurmctld", "-D"])
    commands += [["slurmd", "-D", "-N", f"n{number}"] for number in range(1, NODES + 1)]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "daemons.log").open("w"))
        for command in commands:
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(end, daemon)
            if command[0] == "munged":
                ready = (folder / "munge.socket").exists
                wait_until(ready, "Munge does not answer", 20)
        wait_until(lambda: idle() == NODES, f"Slurm is not ready (see {log.name})", 60)
        yield


def idle() -> int:
    """How many nodes are idle; 0 while the controller does not answer."""
    command = ["sinfo", "--noheader", "--states=idle", "--format=%D"]
    asked = subprocess.run(command, capture_output=True, text=True)
    return int(asked.stdout.split()[0]) if asked.stdout.strip() else 0


def checkout(folder: Path) -> Path:
    """A folder like the repository's, with a ``.venv`` that runs this Python and this package."""
    place, python = folder / "checkout", sys.executable
    programs = place / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("configs", "deploy"):
        (place / name).symlink_to(ROOT / name)
    path = f'export PATH="{programs}:{Path(python).parent}:$PATH" PYTHONPATH="{ROOT}"\n'
    (programs / "activate").write_text(path)
    (programs / "ltdd-ray").write_text(f'#!/bin/sh\nexec "{python}" -m ltdd_ray "$@"\n')
    (programs / "ltdd-ray").chmod(0o755)
    return place


def state_of(job: str) -> str:
    (state,) = (
        word.partition("=")[2]
        for word in ask("scontrol", "show", "job", job).split()
        if word.startswith("JobState=")
    )
    return state


def updates(run: Path) -> int:
    """Updates of the distillation that are done, by the run's ``progress.json``."""
    try:
        progress = json.loads((run / "progress.json").read_text())
    except (OSError, ValueError):
        return 0
    return progress["done"] if progress["stage"] == "distill" else 0


def status(run: Path) -> str:
    """The first line of `ltdd-ray status`, without the folder."""
    line = ask(sys.executable, "-m", "ltdd_ray", "status", str(run), cwd=ROOT).splitlines()[0]
    return line.partition(": ")[2]


def expect(found: str, beginning: str) -> None:
    if not found.startswith(beginning):
        raise SystemExit(f"{found!r} where {beginning!r} was expected")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/demo.yaml", help="relative to the checkout")
    parser.add_argument("--folder", type=Path, help="for runs, logs and Slurm; must not exist")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="ltdds-", dir="/tmp"))
    folder.mkdir(parents=True, exist_ok=not args.folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the daemons end, too
    os.environ |= {"HOME": str(folder), "RAY_TMPDIR": f"{folder}/r"}  # a token, Ray's files
    command = submit_command(args.config, f"{folder}/runs")
    run = load_config(ROOT / args.config, [f"output={folder}/runs"]).folder
    with slurm(folder):
        began, place = time.monotonic(), checkout(folder)
        first = ask(*command, cwd=place).strip()
        wait_until(lambda: updates(run) > 20, "job 1: no updates")
        done = updates(run)
        ask("scancel", first)
        took = wait_until(lambda: not ask("squeue", "--noheader"), "job 1 did not end")
        found = status(run)
        print(f"scancel at update {done}: ended in {took:.0f} s, {found}", flush=True)
        expect(found, "stopped")

        second = ask(*command, cwd=place).strip()
        wait_until(lambda: updates(run) > done, "job 2: no updates")
        done = updates(run)
        ask("scontrol", "requeue", second)
        held = wait_until(lambda: state_of(second) == "PENDING", "job 2 was not requeued")
        found = status(run)
        held += wait_until(lambda: state_of(second) == "RUNNING", "job 2 did not start again")
        print(f"requeue at update {done}: started again in {held:.0f} s, {found}", flush=True)
        expect(found, "stopped")
        wait_until(lambda: not ask("squeue", "--noheader"), "job 2 did not end", 2 * PATIENCE)
        took = time.time() - (run / "events.jsonl").stat().st_mtime
        expect(state_of(second), "COMPLETED")
        expect(status(run), "finished")
        print(f"finished in {time.monotonic() - began:.0f} s, {took:.0f} s after its last event")
    if not args.folder:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
