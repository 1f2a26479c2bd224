"""The configuration and commands of the Slurm on one machine; the script itself takes minutes."""

import json
import re
from pathlib import Path

import pytest
from slurm_run import CPUS, MEMORY, NODES, ROOT, SIZE, expect, slurm_conf, submit_command, updates

from ltdd_ray.cli.parser import build_parser
from ltdd_ray.config.loading import load_config


def test_nodes_have_a_port_and_a_folder_each_and_hold_the_job(tmp_path: Path) -> None:
    text = slurm_conf(tmp_path, "here", "somebody", [7000, 7001, 7002])
    settings = dict(line.split("=", 1) for line in text.splitlines() if "Node" not in line)
    assert settings["SlurmctldPort"] == "7000" and settings["SlurmctldHost"].startswith("here(")
    assert "%n" in settings["SlurmdSpoolDir"] and "%n" in settings["SlurmdPidFile"]
    assert re.findall(r"^NodeName=(n\d) NodeHostname=here .* Port=(\d+) ", text, re.M) == [
        ("n1", "7001"),
        ("n2", "7002"),
    ]
    assert text.count(f" CPUs={CPUS} RealMemory={MEMORY * 1024}\n") == NODES
    assert f"--cpus-per-task={CPUS}" in SIZE and f"--mem={MEMORY}G" in SIZE


def test_the_job_is_that_of_the_documents_in_another_size() -> None:
    command = submit_command("configs/demo.yaml", "/shared/runs")
    at = command.index("deploy/slurm.sh")
    documented = (ROOT / "docs" / "cluster.md").read_text()
    assert f"{command[0]} {command[at]} configs/" in documented
    script = (ROOT / "deploy" / "slurm.sh").read_text()
    for option in SIZE:  # each takes the place of a line of the script, and there is no other one
        assert f"#SBATCH {option.partition('=')[0]}=" in script
    given = build_parser().parse_args(["run", *command[at + 1 :], "compute.address=head:20001"])
    config = load_config(ROOT / given.config, given.set)
    assert config.compute.num_workers == NODES and config.compute.address == "head:20001"


@pytest.mark.parametrize(("stage", "done"), [("distill", 7), ("experts", 0)])
def test_updates_are_those_of_the_distillation(tmp_path: Path, stage: str, done: int) -> None:
    assert updates(tmp_path) == 0
    (tmp_path / "progress.json").write_text(json.dumps({"stage": stage, "done": 7}))
    assert updates(tmp_path) == done


def test_another_answer_ends_the_script() -> None:
    expect("stopped; submit again to resume", "stopped")
    with pytest.raises(SystemExit, match="'no sign of life since 12 s' where 'stopped' was"):
        expect("no sign of life since 12 s", "stopped")
