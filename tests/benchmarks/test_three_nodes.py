"""The commands of the simulated cluster; the script itself takes minutes."""

import shlex
import subprocess
from pathlib import Path

import pytest
from three_nodes import NODES, ROOT, end, free_ports, job_command, listens, node_command, wait_until

from ltdd_ray.cli.parser import build_parser
from ltdd_ray.config.loading import load_config


def options(command: list[str]) -> dict[str, str]:
    return dict(word.removeprefix("--").split("=", 1) for word in command if "=" in word)


def test_nodes_have_a_folder_and_an_address_each_and_the_head_no_cpus(tmp_path: Path) -> None:
    head, *nodes = (options(node_command(n, 6379, 8265, tmp_path)) for n in range(NODES + 1))
    assert head["num-cpus"] == "0" and head["port"] == "6379" and head["dashboard-port"] == "8265"
    assert [node["num-cpus"] for node in nodes] == ["2"] * 3
    assert {node["address"] for node in nodes} == {"127.0.0.1:6379"}
    for key in ("temp-dir", "node-ip-address", "metrics-export-port"):
        assert len({one[key] for one in (head, *nodes)}) == NODES + 1


@pytest.mark.parametrize("output", ["/tmp/runs", "s3://bucket/runs?scheme=http"])
def test_the_job_is_that_of_the_documents_with_two_workers(output: str) -> None:
    command = job_command(8265, "configs/demo.yaml", output)
    at = command.index("python")
    documented = (ROOT / "docs" / "cluster.md").read_text()
    assert shlex.join(command[at - 3 : at]) == "--runtime-env deploy/runtime_env.yaml --"
    assert " ".join(command[at : at + 3]) in documented
    given = build_parser().parse_args(["run", *command[at + 2 :]])
    config = load_config(ROOT / given.config, given.set)
    assert config.compute.num_workers == 2 and config.compute.num_actors == 3
    assert output.startswith("s3:") == bool(config.address)


def test_ports_are_free_and_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5 and not any(map(listens, ports))
    monkeypatch.setattr("three_nodes.PATIENCE", 0.0)
    with pytest.raises(SystemExit, match="nothing came; on a busy machine"):
        wait_until(lambda: False, "nothing came")


@pytest.mark.timeout(60)
def test_nobody_waits_for_a_node_that_has_ended() -> None:
    with subprocess.Popen(["true"]) as gone, pytest.raises(SystemExit, match="no head"):
        wait_until(lambda: False, "no head", gone)


def test_only_the_given_process_ends() -> None:
    ended, other = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    try:
        end(ended)
        assert ended.poll() is not None and other.poll() is None
    finally:
        other.kill()
        other.wait()
