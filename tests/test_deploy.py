"""The files in deploy/ are well-formed and fit this repository and its version of Ray."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ltdd_ray.cli.parser import build_parser
from ltdd_ray.config.loading import load_config

ROOT = Path(__file__).parent.parent
RAY = next(
    line.partition("==")[2].strip()
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.startswith("ray==")
)


def deployed(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "deploy" / name).read_text())


def test_the_cluster_file_fits_rays_schema() -> None:
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    cluster = deployed("cluster.yaml")
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "max_worker": 4}, schema)


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_rayjob_is_consistent() -> None:
    job = deployed("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == RAY
    assert f"rayproject/ray:{RAY}-" in (ROOT / "deploy" / "Dockerfile").read_text()
    for pod in pods(job):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["resources"]["limits"] == container["resources"]["requests"]
    assert len({container["image"] for pod in pods(job) for container in pod["containers"]}) == 1


def test_the_rayjobs_command_parses() -> None:
    python, script, *arguments = deployed("rayjob.yaml")["spec"]["entrypoint"].split()
    script, config = (path.removeprefix("/home/ray/ltdd_ray/") for path in (script, arguments[0]))
    assert python == "python" and (ROOT / script).is_file()
    options = build_parser().parse_args(["run", *arguments])
    found = load_config(ROOT / config, options.set)
    workers = deployed("rayjob.yaml")["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert found.compute.num_workers * found.compute.gpus_per_worker <= workers["replicas"]
    assert found.folder.is_relative_to("/shared")


@pytest.mark.parametrize("job", sorted((ROOT / "jobs").glob("*.py")), ids=lambda job: job.stem)
def test_a_job_runs_its_verb(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [str(job), "none.yaml"])
    with pytest.raises(SystemExit) as exit:
        exec(compile(job.read_text(), job, "exec"), {"__name__": "__main__"})
    assert exit.value.code == 1 and "none.yaml: no such config file" in capsys.readouterr().err


def test_paths_excluded_from_the_runtime_environment_exist() -> None:
    environment = deployed("runtime_env.yaml")
    assert environment["working_dir"] == "."
    for path in environment["excludes"]:
        assert (ROOT / path.lstrip("/")).exists()
