"""Checks before a Train job: number of workers, and the checkpoints of an earlier job."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from pyarrow import fs

from ltdd_ray.cluster.trajectory import drop_unusable, drop_unusable_objects, require_workers
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig

CHECKPOINT = "checkpoint_1"
Drop = Callable[[Path], None]


@pytest.fixture(params=["folder", "objects"])
def drop(request: pytest.FixtureRequest) -> Drop:
    if request.param == "folder":
        return drop_unusable
    return lambda folder: drop_unusable_objects(fs.LocalFileSystem(), str(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    (folder / CHECKPOINT).mkdir(parents=True)
    write_snapshot(folder, ray.__version__)
    return folder


def write_snapshot(folder: Path, version: str) -> None:
    state = {
        "ray_version": version,
        "checkpoint_results": [{"checkpoint_dir_name": CHECKPOINT, "metrics": {}}],
    }
    (folder / "checkpoint_manager_snapshot.json").write_text(json.dumps(state))


def test_a_usable_checkpoint_is_kept(folder: Path, drop: Drop) -> None:
    drop(folder)
    assert (folder / CHECKPOINT).exists()


def test_a_run_without_checkpoints_is_accepted(tmp_path: Path, drop: Drop) -> None:
    drop(tmp_path / "checkpoints")


def test_a_truncated_list_is_removed(folder: Path, drop: Drop) -> None:
    snapshot = folder / "checkpoint_manager_snapshot.json"
    whole = snapshot.read_text()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        folder.mkdir(exist_ok=True)
        snapshot.write_text(whole[:length])
        drop(folder)
        assert not folder.exists()


def test_a_list_of_another_ray_is_removed(folder: Path, drop: Drop) -> None:
    write_snapshot(folder, "2.0.0")
    drop(folder)
    assert not folder.exists()


def test_a_list_that_names_a_lost_checkpoint_is_removed(folder: Path, drop: Drop) -> None:
    (folder / CHECKPOINT).rmdir()
    drop(folder)
    assert not folder.exists()


def test_a_job_killed_before_its_first_checkpoint_starts_anew(folder: Path, drop: Drop) -> None:
    (folder / "checkpoint_manager_snapshot.json").unlink()
    drop(folder)
    assert not folder.exists()


def test_more_workers_than_images_of_a_batch_are_refused(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    for phase, workers, batch in (({}, 21, 20), ({"classifier": {"batch_size": 7}}, 8, 7)):
        distill = {"ipc": 2, "representation": {"start_epochs": {"max": 3}}, **phase}
        config = tiny(
            tmp_path, distill=distill, compute={"parallel": "batch", "num_workers": workers}
        )
        with pytest.raises(
            UserError,
            match=rf"{workers} workers cannot share .* of {batch} images; "
            rf"--set compute.num_workers={batch}",
        ):
            require_workers(config, [5] * 10)
