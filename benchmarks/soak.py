"""Kills at random times: a tiny run on a simulated cluster of three nodes, round by round.

    python benchmarks/soak.py --rounds 20 --seed 0 --json soak.json

A round kills one to three times: a node (a new one replaces it), a distillation worker, an expert's
actor, the driver, or the head with the driver on it (a new cluster starts). A driver that ended
early is started again with the same command. In the end the distilled set must be that of an
undisturbed run byte for byte, the store must hold the same trajectories, and no trajectory may have
been trained again after its commit. Every second round distils elastically, with one or two
workers.

Exits with 1 if a round failed. Linux only; it kills only processes that it started.
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster
from soak_checks import Commits, differences

from ltdd_ray.cluster.session import RAY_SETTINGS
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config, parse_config

STAGES = ("experts", "distill")
KINDS = ("node", "worker", "actor", "driver", "head")
TITLES = {"worker": "ray::RayTrainWorker", "actor": "ray::Worker"}
QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 5000,
}
CONFIG: dict[str, Any] = {
    "seed": 3,
    "data": {
        "source": "digits",
        "test_fraction": 0.5,
        "imbalance_factor": 10,
        "normalisation": "standard",
    },
    "model": {"width": 8, "depth": 2},
    "experts": {
        "count": 4,
        "representation": {"epochs": 20, "batch_size": 16},
        "classifier": {"epochs": 4, "batch_size": 32},
    },
    "distill": {
        "ipc": 2,
        "updates": 40,
        "segments_per_update": 2,
        "representation": {"syn_steps": 4, "start_epochs": {"max": 10}},
        "classifier": {"syn_steps": 4, "start_epochs": {"max": 2}},
        "lr_image": 10,
        "checkpoint_every": 4,
    },
}


class Machines:
    """Three nodes of one CPU each, the first of them with head and driver."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.cluster = Cluster(
            initialize_head=True, head_node_args={**_node(), "_system_config": QUICK_TO_NOTICE}
        )
        for _ in range(2):
            self.cluster.add_node(**_node())

    def replace_node(self, draw: random.Random) -> None:
        nodes = sorted(self.cluster.worker_nodes, key=lambda node: node.unique_id)
        self.cluster.remove_node(draw.choice(nodes), allow_graceful=False)
        self.cluster.add_node(**_node())

    def replace_all(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        for node in self.cluster.list_all_nodes():
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        self.cluster.worker_nodes.clear()
        self.cluster.head_node = None

    def processes(self, title: str) -> list[int]:
        """Process ids of the actors, on any node, whose title starts with ``title``."""
        return [pid for pid in _descendants(os.getpid()) if _title(pid).startswith(title)]


class Driver:
    """The process of the run's command, which can be started again."""

    def __init__(self, config: RunConfig, machines: Machines) -> None:
        self._config, self._machines = config, machines
        self.starts = 0
        config.folder.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        compute = self._config.compute.model_copy(
            update={"address": self._machines.cluster.address}
        )
        file = self._config.folder.parent / "run.yaml"
        file.write_text(dump_config(self._config.model_copy(update={"compute": compute})))
        imports = "from ltdd_ray.config.loading import *; from ltdd_ray.workflows.pipeline import *"
        code = f"{imports}; run(load_config({str(file)!r}), {STAGES})"
        with (self._config.folder.parent / "driver.log").open("a") as log:
            self._process = subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log)
        self.starts += 1

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()


def _node() -> dict[str, Any]:
    return {
        "num_cpus": 1,
        "object_store_memory": 80_000_000,
        "node_ip_address": "127.0.0.1",
        "include_dashboard": False,
    }


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += map(int, task.read_text().split())
    return [one for child in children for one in (child, *_descendants(child))]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def strike(kind: str, machines: Machines, driver: Driver, draw: random.Random) -> bool:
    """Kill one of ``kind``; False where there is none."""
    if kind in TITLES:
        victims = machines.processes(TITLES[kind])
        try:
            os.kill(draw.choice(victims), signal.SIGKILL)
        except (IndexError, ProcessLookupError):
            return False
        return True
    if kind == "node":
        machines.replace_node(draw)
    elif kind == "driver":
        driver.kill()
    else:
        driver.kill()
        machines.replace_all()
    return True


def survive(
    config: RunConfig,
    machines: Machines,
    times: list[float],
    turns: Iterator[str],
    draw: random.Random,
    limit: float,
) -> dict[str, Any]:
    """Run ``config`` to its end with kills at ``times`` (seconds from the start); returns a record.

    A kill is of the next kind in ``turns``, or of another kind where that one has no process.
    """
    commits = Commits(Path(config.store_uri))
    began, driver, struck = time.monotonic(), Driver(config, machines), []
    ended, gave_up = "finished", 0
    while driver.exit_code != 0:
        time.sleep(0.05)
        elapsed = time.monotonic() - began
        if elapsed > limit:
            driver.kill()
            ended = f"not finished after {limit:.0f} s"
            break
        if times and elapsed > times[0]:
            del times[0]
            for kind in (next(turns), *draw.sample(KINDS, len(KINDS))):
                if strike(kind, machines, driver, draw):
                    struck.append({"kind": kind, "second": round(elapsed, 1)})
                    break
        if driver.exit_code:
            gave_up += driver.exit_code != -signal.SIGKILL
            driver.start()
    commits.stop()
    return {
        "ended": ended,
        "struck": struck,
        "seconds": round(time.monotonic() - began, 1),
        "starts": driver.starts,
        "gave_up": gave_up,
        "trained_again": sorted(commits.repeated),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=300, help="seconds for one round")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ.update(RAY_SETTINGS)
    rounds: list[dict[str, Any]] = []
    turns = itertools.cycle(KINDS)
    machines = Machines()
    try:
        with tempfile.TemporaryDirectory() as folder:

            def config(name: str, min_workers: int | None) -> RunConfig:
                compute = {
                    "num_actors": 2,
                    "num_workers": 2,
                    "min_workers": min_workers,
                    "max_failures": 20,
                }
                return parse_config(
                    {**CONFIG, "name": "run", "output": f"{folder}/{name}", "compute": compute},
                    name,
                )

            undisturbed = config("undisturbed", None)
            first = survive(undisturbed, machines, [], turns, random.Random(), args.limit)
            if first["ended"] != "finished":
                raise SystemExit(f"the undisturbed run has {first['ended']}")
            print(f"undisturbed: {first['seconds']} s", flush=True)
            for number in range(args.rounds):
                draw = random.Random(f"{args.seed}:{number}")
                times = sorted(
                    draw.uniform(0, 0.9 * first["seconds"]) for _ in range(draw.randint(1, 3))
                )
                disturbed = config(f"round-{number}", 1 if number % 2 else None)
                record = survive(disturbed, machines, times, turns, draw, args.limit)
                record["broken"] = [
                    f"{name} trained again after its commit" for name in record["trained_again"]
                ]
                if record["ended"] == "finished":
                    record["broken"] += differences(disturbed, undisturbed)
                else:
                    record["broken"].append(record["ended"])
                    machines.replace_all()
                rounds.append(record)
                blows = ", ".join(
                    f"{blow['kind']} at {blow['second']} s" for blow in record["struck"]
                )
                outcome = "; ".join(record["broken"]) or "the same set"
                cost = f"{record['starts']} starts, {record['seconds']} s"
                print(f"round {number}: {blows}; {cost}: {outcome}", flush=True)
    finally:
        machines.stop()
    counts = Counter(blow["kind"] for record in rounds for blow in record["struck"])
    summary = {
        "rounds": len(rounds),
        "kept": sum(not record["broken"] for record in rounds),
        "struck": dict(counts),
        "starts": sum(record["starts"] for record in rounds),
        "gave_up": sum(record["gave_up"] for record in rounds),
        "trained_again": sum(len(record["trained_again"]) for record in rounds),
    }
    print(json.dumps(summary))
    if args.json:
        args.json.write_text(
            json.dumps({"summary": summary, "undisturbed": first, "rounds": rounds}, indent=1)
        )
    return 0 if summary["kept"] == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
