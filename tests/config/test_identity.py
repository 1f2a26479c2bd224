"""Fingerprints stay as they are, so that a run finds the finished work of an earlier version."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ltdd_ray.cluster.evaluation import plan_networks
from ltdd_ray.config import RunConfig, result_fingerprint
from ltdd_ray.config.loading import load_config
from ltdd_ray.experts.plan import config_fingerprint, trajectory_tasks
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.workflows.search.trial import trial_identity

ROOT = Path(__file__).parents[2]
DATA: Any = SimpleNamespace(
    train=SimpleNamespace(fingerprint="training images"),
    evaluation=SimpleNamespace(fingerprint="test images"),
)


@pytest.fixture
def shipped() -> RunConfig:
    return load_config(ROOT / "configs" / "cifar10_lt" / "cpu.yaml")


def test_the_fingerprints_of_a_shipped_config(shipped: RunConfig, tmp_path: Path) -> None:
    """A change here loses the work of runs in progress, so it needs a reason."""
    distilled = RunFolder(tmp_path).distilled
    distilled.mkdir()
    (distilled / "distilled.safetensors").write_bytes(b"a distilled set")
    records = plan_networks(shipped, DATA, RunFolder(tmp_path))
    assert {
        "trajectories": [task.identity for task in trajectory_tasks(shipped, DATA.train, 3)],
        "store": config_fingerprint(shipped),
        "run": result_fingerprint(shipped),
        "network": {record.identity for record in records},
        "trial": trial_identity(shipped, DATA, {"distill.lambda_rep": 2.0}),
    } == {
        "trajectories": ["c4ba823c47c1c11a", "daba9bad3965bf4a"],
        "store": "49f27a2a491c2cb4",
        "run": "355444e43d5adf4a",
        "network": {"bc2d1b80e063a4ac"},
        "trial": "f74791c9cc5aa9fa",
    }
