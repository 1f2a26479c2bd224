from collections.abc import Callable
from pathlib import Path

from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.evaluate.pool import plan_networks
from ltdd_ray.evaluate.train import NetworkResult
from ltdd_ray.runfolder import RunFolder

RESULT = NetworkResult("random", 1, 0.5, (0.25, 0.75), 1.5)


def test_a_result_is_found_again_only_for_the_same_distilled_set(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    config = tiny(tmp_path)
    data, folder = prepare_data(config), RunFolder(tmp_path)
    folder.distilled.mkdir()
    (folder.distilled / "distilled.safetensors").write_bytes(b"one")
    records = plan_networks(config, data, folder)
    assert [(r.set_name, r.network) for r in records] == [("distilled", 0), ("distilled", 1), ("random", 0), ("random", 1)]
    records[3].write(RESULT)
    assert [record.read() for record in plan_networks(config, data, folder)] == [None, None, None, RESULT]

    assert plan_networks(tiny(tmp_path, seed=4), data, folder)[3].read() is None
    (folder.distilled / "distilled.safetensors").write_bytes(b"another")
    assert plan_networks(config, data, folder)[3].read() is None


def test_a_broken_file_counts_as_missing(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    config = tiny(tmp_path)
    folder = RunFolder(tmp_path)
    folder.distilled.mkdir()
    (folder.distilled / "distilled.safetensors").write_bytes(b"one")
    record = plan_networks(config, prepare_data(config), folder)[0]
    record.write(RESULT)
    record.file.write_bytes(record.file.read_bytes()[:-9])
    assert record.read() is None


def test_a_selection_needs_no_distilled_set(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    config = tiny(tmp_path, evaluate={"networks": 1, "sets": ["random", "full_ce"]})
    records = plan_networks(config, prepare_data(config), RunFolder(tmp_path))
    assert [record.file.name for record in records] == ["random-0.json", "full_ce-0.json"]
