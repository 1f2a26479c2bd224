"""Decoding shards on Ray, and the cluster that each command decodes on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from listkit import assert_as_listed, write_listed_images

from ltdd_ray.cli.main import main
from ltdd_ray.cluster import session
from ltdd_ray.cluster.image_cache import ray_writer
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ComputeConfig, DataConfig, RunConfig
from ltdd_ray.config.loading import dump_config
from ltdd_ray.data.load import load_data
from ltdd_ray.data.sources import imagenet
from ltdd_ray.workflows.compare.run_methods import compare
from ltdd_ray.workflows.pipeline import run
from ltdd_ray.workflows.search.run_search import search

ADDRESS = "192.0.2.1:6379"


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    monkeypatch.setattr(imagenet, "SHARD_BYTES", 4 * 3 * 8 * 8)
    return write_listed_images(tmp_path)


def shards(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.arrow")}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_writes_the_bytes_that_one_process_writes(
    listed: DataConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_as_listed(load_data(listed, 0))
    here = shards(tmp_path / "cache")
    elsewhere = listed.model_copy(update={"cache": str(tmp_path / "other")})
    assert_as_listed(load_data(elsewhere, 0, ray_writer(ComputeConfig())))
    assert len(here) == 6 + 2 and shards(tmp_path / "other") == here
    assert capfd.readouterr().out == ""


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_damaged_image_is_named_and_leaves_no_finished_cache(
    listed: DataConfig, tmp_path: Path
) -> None:
    damaged = tmp_path / "images/train/n02/n02_3.JPEG"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    message = (
        r"^\S+n02_3.JPEG \(\S+train.txt line 16\) is not a readable image .*; repair or remove it$"
    )
    with pytest.raises(UserError, match=message):
        load_data(listed, 0, ray_writer(ComputeConfig()))
    assert not list(tmp_path.glob("cache/*/cache.json"))
    damaged.write_bytes(content)
    assert_as_listed(load_data(listed, 0, ray_writer(ComputeConfig())))


def data_info(config: RunConfig) -> None:
    file = config.folder.parent / "config.yaml"
    file.write_text(dump_config(config))
    main(["data", "info", str(file), "--debug"])


@pytest.mark.parametrize(
    "command",
    [
        lambda config: run(config, ("experts",)),
        lambda config: compare(config, ["random"]),
        search,
        data_info,
    ],
    ids=["run", "compare", "search", "data info"],
)
def test_images_are_decoded_on_the_cluster_of_compute_address(
    listed: DataConfig,
    tiny: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[[RunConfig], object],
) -> None:
    asked: list[str] = []

    def init(address: str, **_: object) -> None:
        asked.append(address)
        raise ConnectionError("nobody is there")

    monkeypatch.setattr(session, "require_cluster", lambda address, origin: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    config = tiny(
        tmp_path,
        data=listed.model_dump(mode="json"),
        compute={"address": ADDRESS},
        search={"report_every": 6, "asha": None},
    )
    with pytest.raises(UserError, match=f"no Ray cluster answers at {ADDRESS}"):
        command(config)
    assert asked == [ADDRESS] and not shards(tmp_path / "cache")
