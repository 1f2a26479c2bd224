"""A search on Ray whose driver is killed: the next start keeps ended trials and finishes."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config, load_config
from ltdd_ray.runs.status import read_status

PATIENCE = 240.0  # seconds


def files(folder: Path) -> dict[Path, int]:
    """Modification time of every file below ``folder``."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_killed_search_resumes(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    search = {"trials": 5, "report_every": 6, "epochs": 4, "asha": {"reduction": 2}}
    config = tiny(tmp_path, search=search, compute={"num_cpus": 2})
    file = tmp_path / "tiny.yaml"
    file.write_text(dump_config(config))
    trials = config.folder / "search" / "trials"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "ltdd_ray", "search", str(file)])

    driver, deadline = start(), time.monotonic() + PATIENCE
    while len(list(trials.glob("*/outcome.json"))) < 2:
        assert driver.poll() is None and time.monotonic() < deadline, "no two trials ended"
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    ended = [outcome.parent for outcome in trials.glob("*/outcome.json")]
    assert 2 <= len(ended) < 5 and not (config.folder / "search" / "best.yaml").exists()
    before = {
        **files(config.folder / "search" / "experts"),
        **{k: v for one in ended for k, v in files(one).items()},
    }
    assert not read_status(config.folder)["finished"]

    assert start().wait(PATIENCE) == 0
    assert {name: files(config.folder)[name] for name in before} == before, (
        "an ended trial ran again"
    )
    assert len(list(trials.glob("*/outcome.json"))) == len(list(trials.iterdir())) == 5
    assert (
        load_config(config.folder / "search" / "best.yaml").distill.updates
        == config.distill.updates
    )
    status = read_status(config.folder)
    assert (
        status["finished"]
        and status["stage"] == "search"
        and status["done"] == status["total"] == 5 * 12
    )
    assert not list(config.folder.rglob("*.pkl"))
