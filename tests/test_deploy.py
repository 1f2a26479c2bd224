"""The files in deploy/ are well-formed and fit this repository and its version of Ray."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import jsonschema
import pytest
import yaml

from ltdd_ray.cli.parser import build_parser
from ltdd_ray.config.loading import load_config

ROOT = Path(__file__).parent.parent
RAYJOBS = ("rayjob.yaml", "rayjob-s3.yaml")
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


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("name", RAYJOBS)
def test_the_rayjob_is_consistent(name: str) -> None:
    job = deployed(name)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == RAY
    assert f"rayproject/ray:{RAY}-" in (ROOT / "deploy" / "Dockerfile").read_text()
    for pod in pods(job):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in containers(pod):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
            assert container["resources"]["limits"] == container["resources"]["requests"]
    assert len({container["image"] for pod in pods(job) for container in containers(pod)}) == 1


@pytest.mark.parametrize("name", RAYJOBS)
def test_the_rayjobs_command_parses(name: str) -> None:
    python, script, *arguments = deployed(name)["spec"]["entrypoint"].split()
    script, config = (path.removeprefix("/home/ray/ltdd_ray/") for path in (script, arguments[0]))
    assert python == "python" and (ROOT / script).is_file()
    options = build_parser().parse_args(["run", *arguments])
    found = load_config(ROOT / config, options.set)
    workers = deployed(name)["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert found.compute.num_workers * found.compute.gpus_per_worker <= workers["replicas"]
    if name == "rayjob.yaml":
        assert found.folder.is_relative_to("/shared")
    else:
        assert found.address == f"s3://BUCKET/runs/{found.name}"
        assert found.store_uri == f"{found.address}/experts"


def test_the_rayjob_on_s3_shares_no_volume() -> None:
    """What a pod writes to its own disk may be lost with it."""
    head, *workers = pods(deployed("rayjob-s3.yaml"))
    assert [volume for pod in workers for volume in pod.get("volumes", [])] == []
    assert all("emptyDir" in volume for volume in head["volumes"])
    assert {pod["serviceAccountName"] for pod in (head, *workers)} == {"ltdd-ray"}
    (mount,) = head["initContainers"][0]["volumeMounts"]
    entrypoint = deployed("rayjob-s3.yaml")["spec"]["entrypoint"]
    assert f"data.path={mount['mountPath']}/cifar10" in entrypoint


def test_the_images_of_the_rayjob_on_s3_are_copied(tmp_path: Path) -> None:
    """Its command, with a folder in place of the bucket."""
    (tmp_path / "bucket" / "cifar10" / "below").mkdir(parents=True)
    (tmp_path / "bucket" / "cifar10" / "below" / "batch").write_text("images")
    command = pods(deployed("rayjob-s3.yaml"))[0]["initContainers"][0]["command"]
    places = {"s3://BUCKET": f"file://{tmp_path}/bucket", "/images": str(tmp_path / "images")}
    for there, here in places.items():
        command = [word.replace(there, here) for word in command]
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert (tmp_path / "images" / "cifar10" / "below" / "batch").read_text() == "images"


@pytest.mark.parametrize("job", sorted((ROOT / "jobs").glob("*.py")), ids=lambda job: job.stem)
def test_a_job_runs_its_verb(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [str(job), "none.yaml"])
    with pytest.raises(SystemExit) as exit:
        exec(compile(job.read_text(), job, "exec"), {"__name__": "__main__"})
    assert exit.value.code == 1 and "none.yaml: no such config file" in capsys.readouterr().err


def test_a_job_receives_the_code_and_the_configs_but_no_photos(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    checkout, package = tmp_path / "checkout", tmp_path / "package.zip"
    sent = {
        "ltdd_ray/api.py",
        "ltdd_ray/data/load.py",
        "jobs/pipeline.py",
        "configs/demo.yaml",
        "mine.yaml",
    }
    kept = {"photos/cat/1.jpg", "x/2.png", ".git/config", "tests/test_api.py", "key.pem", ".env"}
    for name in sent | kept:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("content")
    environment = deployed("runtime_env.yaml")
    assert environment["working_dir"] == "."
    create_package(str(checkout), package, include_gitignore=True, excludes=environment["excludes"])
    assert set(ZipFile(package).namelist()) == sent


def test_the_image_and_the_nodes_receive_the_installed_files_only() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[0] == "*"  # everything is excluded except the names that follow
    needed = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "ltdd_ray", "configs"}
    into_image = {line[1:] for line in lines if line.startswith("!")}
    assert into_image == needed | {"jobs"}
    home = "/home/ubuntu/ltdd_ray/"
    mounts = deployed("cluster.yaml")["file_mounts"]
    to_nodes = {there.removeprefix(home) for there in mounts if there.startswith(home)}
    assert to_nodes == needed == {mounts[home + name] for name in to_nodes}
    assert all((ROOT / name).exists() for name in into_image)


def test_every_cluster_starts_with_token_authentication() -> None:
    """That Ray then refuses a request without the token is checked in test_authentication.py."""
    cluster = deployed("cluster.yaml")
    assert cluster["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("export RAY_AUTH_MODE=token" in line for line in cluster["initialization_commands"])
    for name in RAYJOBS:
        job = deployed(name)["spec"]["rayClusterSpec"]
        assert job["authOptions"] == {"mode": "token"}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert "\nENV RAY_AUTH_MODE=token\n" in dockerfile
    for text in (ROOT / "docs" / "cluster.md", ROOT / "deploy" / "slurm.sh"):
        lines = text.read_text().split("## On ")
        for part in lines:
            if "ray start --head" in part or "ray up" in part:
                generated = part.index("ray get-auth-token --generate")
                protected = part.index("chmod 600 ~/.ray/auth_token")
                assert generated < protected < part.index("export RAY_AUTH_MODE=token")


def test_the_pods_run_as_the_plain_user_of_the_image() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert [line for line in dockerfile.splitlines() if line.startswith("USER")] == ["USER 1000"]
    for pod in (pod for name in RAYJOBS for pod in pods(deployed(name))):
        assert (
            pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
        )


# The fields of KubeRay's RayJob (ray.io_rayjobs.yaml, v1) that this file may use.
SPEC = {
    "entrypoint",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "rayClusterSpec",
}
CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "headGroupSpec",
    "workerGroupSpecs",
}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


@pytest.mark.parametrize("name", RAYJOBS)
def test_the_rayjob_uses_fields_that_kuberay_knows(name: str) -> None:
    spec = deployed(name)["spec"]
    cluster = spec["rayClusterSpec"]
    assert set(spec) <= SPEC and set(cluster) <= CLUSTER
    assert set(cluster["headGroupSpec"]) <= {"rayStartParams", "template"}
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "template"} <= set(group) <= GROUP
        if not cluster.get("enableInTreeAutoscaling"):  # the bounds would have no effect
            assert not {"minReplicas", "maxReplicas"} & set(group)


def test_the_slurm_script_parses() -> None:
    subprocess.run(["bash", "-n", ROOT / "deploy" / "slurm.sh"], check=True)
