"""Class lists and their cache, from a folder of thirty small JPEGs; decoding itself is done here without Ray, but for one test."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltdd_ray.cluster import image_cache
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.load import load_data
from ltdd_ray.data.sources import imagenet
from ltdd_ray.data.sources.imagenet import Shard

COUNTS = {"n01": 12, "n02": 8, "n03": 4}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """24 training images of three classes and 6 test images, each 5 grey levels lighter; four images a file of the cache."""
    monkeypatch.setattr(imagenet, "SHARD_BYTES", 4 * 3 * 8 * 8)
    lines = [
        f"train/{name}/{name}_{at}.JPEG {k}"
        for k, (name, count) in enumerate(COUNTS.items())
        for at in range(count)
    ]
    tests = [f"val/{name}/val {at}.JPEG {k}" for k, name in enumerate(COUNTS) for at in range(2)]
    for at, line in enumerate([*lines, *tests]):
        file = tmp_path / "images" / line.rpartition(" ")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20 + at, 16), 40 + 5 * at).convert("RGB" if at % 3 else "L").save(
            file, "jpeg", quality=95
        )
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "test.txt").write_text("\n".join(tests))
    return DataConfig(
        source="imagenet_lt",
        path=str(tmp_path / "images"),
        train_list=str(tmp_path / "train.txt"),
        test_list=str(tmp_path / "test.txt"),
        cache=str(tmp_path / "cache"),
        image_size=8,
        normalisation="standard",
    )


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards decoded so far, without Ray."""
    names: list[str] = []

    def write(shards: list[Shard]) -> None:
        for shard in shards:
            shard.write()
            names.append(Path(shard.file).name)

    monkeypatch.setattr(image_cache, "write_shards", write)
    return names


def levels(images: np.ndarray) -> list[int]:
    return (images[:, :, 4, 4].astype(int).mean(1).round()).astype(int).tolist()


def is_as_listed(config: DataConfig) -> bool:
    splits = load_data(config, 0)
    assert splits.train.class_names == splits.test.class_names == ("n01", "n02", "n03")
    assert splits.train.class_counts.tolist() == [
        12,
        8,
        4,
    ] and splits.test.class_counts.tolist() == [2, 2, 2]
    expected = 40 + 5 * np.arange(30)
    found = levels(splits.train.images[:]) + levels(splits.test.images[:])
    return splits.train.image_shape == (3, 8, 8) and bool((np.abs(found - expected) <= 1).all())


@pytest.mark.usefixtures("written")
def test_images_are_those_of_the_lists_in_order(config: DataConfig) -> None:
    assert is_as_listed(config)


def test_what_is_cached_is_not_decoded_again(config: DataConfig, written: list[str]) -> None:
    load_data(config, 0)
    assert len(written) == 6 + 2
    load_data(config, 0)
    load_data(config.model_copy(update={"imbalance_factor": 4.0, "largest_class": 10}), 0)
    assert len(written) == 8
    load_data(config.model_copy(update={"image_size": 10}), 0)
    assert len(written) > 8


def test_an_interrupted_cache_is_completed(
    config: DataConfig, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_data(config, 0)
    folders = list(Path(config.cache or "").iterdir())
    train = next(
        folder
        for folder in folders
        if json.loads((folder / "cache.json").read_text())["images"] == 24
    )
    (train / "cache.json").unlink()
    (train / "00002.arrow").unlink()
    (train / ".00002.arrow.tmp").write_bytes(b"half a file")
    del written[:]
    assert is_as_listed(config) and written == ["00002.arrow"]


@pytest.mark.usefixtures("written")
def test_the_profile_and_splits_are_views(config: DataConfig) -> None:
    settings = {
        "imbalance_factor": 2.0,
        "largest_class": 8,
        "selection": "first",
        "validation_fraction": 0.25,
    }
    splits = load_data(config.model_copy(update=settings), 0)
    assert splits.train.class_counts.tolist() == [6, 4, 3] and splits.validation is not None
    assert (
        splits.train.bytes_in_memory
        == splits.validation.bytes_in_memory
        == splits.test.bytes_in_memory
        == 0
    )
    assert levels(splits.train.images[-3:])[0] >= 40 + 5 * 20


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/n01/x.JPEG", r"train.txt line 25: .* is not `relative/path label`"),
        ("train/n01/x.JPEG -1", r"line 25"),
        ("", r"line 25: ''"),
        (
            "train/n09/x.JPEG 3",
            r"n09/x.JPEG \(.*train.txt line 25\) is not a readable image .*; repair or remove it",
        ),
        ("train/n01/bad.JPEG 0", r"n01/bad.JPEG \(.*train.txt line 25\) is not a readable image"),
    ],
)
def test_a_bad_line_or_image_is_named(config: DataConfig, line: str, message: str) -> None:
    (Path(config.path or "") / "train/n01/bad.JPEG").write_bytes(b"\xff\xd8\xff no jpeg")
    with Path(config.train_list or "").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=message):
        load_data(config, 0)


def test_missing_settings(config: DataConfig) -> None:
    for key in ("train_list", "cache", "image_size"):
        with pytest.raises(
            UserError, match=r"needs data.train_list .*, data.cache .* and data.image_size"
        ):
            load_data(config.model_copy(update={key: None}), 0)
    with pytest.raises(UserError, match=r"data.test_list: .*nowhere does not exist"):
        load_data(config.model_copy(update={"test_list": "nowhere"}), 0)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_decodes_and_reports_a_damaged_image(
    config: DataConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = Path(config.path or "") / "train/n02/n02_3.JPEG"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        UserError,
        match=r"^\S+n02_3.JPEG \(\S+train.txt line 16\) is not a readable image .*; repair or remove it$",
    ):
        load_data(config, 0)
    assert not list(Path(config.cache or "").glob("*/cache.json")), (
        "an incomplete cache must not be taken for a whole one"
    )
    damaged.write_bytes(content)
    assert is_as_listed(config)
    assert capfd.readouterr().out == ""
