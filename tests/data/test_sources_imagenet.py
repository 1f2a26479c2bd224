"""Class lists and the cache of decoded images."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from listkit import assert_as_listed, grey_levels, write_listed_images

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.load import load_data
from ltdd_ray.data.sources import imagenet
from ltdd_ray.data.sources.imagenet import ImageShard


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Thirty images; a shard holds four."""
    monkeypatch.setattr(imagenet, "SHARD_BYTES", 4 * 3 * 8 * 8)
    return write_listed_images(tmp_path)


def noting(names: list[str]) -> Callable[[Sequence[ImageShard]], None]:
    """A writer that adds the name of each shard it writes to ``names``."""

    def write(shards: Sequence[ImageShard]) -> None:
        for shard in shards:
            shard.write()
            names.append(Path(shard.file).name)

    return write


def test_images_are_those_of_the_lists_in_order(config: DataConfig) -> None:
    assert_as_listed(load_data(config, 0))


def test_cached_images_are_not_decoded_again(config: DataConfig) -> None:
    written: list[str] = []
    write = noting(written)
    load_data(config, 0, write)
    assert len(written) == 6 + 2
    load_data(config, 0, write)
    load_data(config.model_copy(update={"imbalance_factor": 4.0, "largest_class": 10}), 0, write)
    assert len(written) == 8
    load_data(config.model_copy(update={"image_size": 10}), 0, write)
    assert len(written) > 8


def test_an_interrupted_cache_is_completed(config: DataConfig) -> None:
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
    written: list[str] = []
    assert_as_listed(load_data(config, 0, noting(written)))
    assert written == ["00002.arrow"]


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
    assert grey_levels(splits.train.images[-3:])[0] >= 40 + 5 * 20


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/n01/x.JPEG", r"train.txt line 25: .* is not `relative/path label`"),
        ("train/n01/x.JPEG -1", r"line 25"),
        ("", r"line 25: ''"),
        (
            "train/n09/x.JPEG 3",
            r"n09/x.JPEG \(.*train.txt line 25\) cannot be read: no such file or directory; check",
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
