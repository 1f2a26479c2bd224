"""The pipeline on Ray at an address, whose workers share no folder with the driver."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import fs
from s3kit import address, make_bucket, s3_server

import ltdd_ray
from ltdd_ray.common.address import cache_folder
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.runs.output import JsonOutput
from ltdd_ray.workflows.pipeline import require_folder, run

pytest.importorskip("moto.server")
Tiny = Callable[..., RunConfig]


@pytest.mark.ray
def test_the_driver_moves_between_stages(
    tiny: Tiny,
    ray_cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Workers keep the cache of the user, since they were started before the driver chose others.

    After each stage the driver goes on without its folder, as on another machine.
    """
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import without_ray

    config = tiny(tmp_path)
    sections = {
        "experts": {**config.experts.model_dump(), "count": 2},
        "distill": {**config.distill.model_dump(), "updates": 6},
        "evaluate": {"networks": 1, "epochs": 2, "sets": ["distilled", "random"]},
        "compute": {"num_workers": 1},
    }
    local = tiny(tmp_path, **sections)
    monkeypatch.setattr(without_ray, "prepare_process", lambda threads: None)
    without_ray.run(local, without_ray.Timer(float("inf")))
    expected = ltdd_ray.load_distilled(local.folder)
    with s3_server() as port:
        make_bucket(port)
        config = local.model_copy(update={"output": address(port, "bucket/runs")})
        of_workers = cache_folder(config.output, "runs")
        try:
            for number, stage in enumerate(("experts", "distill", "evaluate", "report")):
                monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine{number}"))
                run(config, (stage,), JsonOutput())
            log = (config.folder / "distilled" / "history.jsonl").read_text().splitlines()
            assert [json.loads(line)["update"] for line in log] == list(range(1, 7))
            assert not (config.folder / "distilled" / "checkpoints").exists()
            assert of_workers.exists(), "the workers had the folder of the driver"
        finally:
            shutil.rmtree(of_workers, ignore_errors=True)
        found = ltdd_ray.load_distilled(config.address or "")
        assert found.images.equal(expected.images)
        assert found.soft_labels.equal(expected.soft_labels)
        filesystem, path = fs.FileSystem.from_uri(config.address)
        assert filesystem.get_file_info(f"{path}/report.html").is_file
        checkpoints = filesystem.get_file_info(f"{path}/distilled/checkpoints")
        assert checkpoints.type == fs.FileType.Directory
    said = capsys.readouterr().out
    assert "s3://bucket/runs/tiny/report.html" in said and "secret" not in said


def test_what_needs_a_folder_says_so(tiny: Tiny, tmp_path: Path) -> None:
    require_folder(tiny(tmp_path), "search")
    config = tiny(tmp_path).model_copy(update={"output": "s3://key:secret@bucket/runs"})
    with pytest.raises(
        UserError,
        match=r"^search: output s3://bucket/runs is an address, which only single runs can have; "
        "--set output=/",
    ):
        require_folder(config, "search")
