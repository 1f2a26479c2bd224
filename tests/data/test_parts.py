"""Parts, shards and labels: what would miss, double or misname images is refused."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.load import DataSplits, load_data

RANDOM = np.random.default_rng(0)


def load(source: str, path: Path, **settings: Any) -> DataSplits:
    return load_data(
        DataConfig(source=source, path=str(path), **{"test_fraction": 0.5, **settings}), 0
    )


def parquet(file: Path) -> None:
    buffer = BytesIO()
    Image.fromarray(RANDOM.integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "png")
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": [{"bytes": buffer.getvalue()}] * 2, "label": [0, 1]}), file)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train-0-of-2"], r"train-1-of-2\.parquet is missing, 1 of 2"),
        (["train-001-of-003", "train-003-of-003"], r"train-002-of-003\.parquet is missing, 2 of 3"),
        (["train-00000-of-00001", "train-00000-of-00002"], "of two exports of one part"),
        (["train-00000-of-00001-ab", "train-00000-of-00001-cd"], "of two exports of one part"),
        (["train", "train copy"], r"train copy\.parquet looks like a second download or a copy"),
        (["train", "train - Copy (2)"], r"Copy \(2\)\.parquet looks like a second download"),
        (["train", "train(1)"], r"train\(1\)\.parquet looks like a second download"),
    ],
)
def test_shards_that_would_miss_or_double_images_are_refused(
    tmp_path: Path, files: list[str], words: str
) -> None:
    for name in files:
        parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(UserError, match=words):
        load("parquet", tmp_path)


def test_shards_may_be_numbered_from_1(tmp_path: Path) -> None:
    for name in ("train-1-of-2", "train-2-of-2", "test-00000-of-00001-3fa2"):
        parquet(tmp_path / f"{name}.parquet")
    assert len(load("parquet", tmp_path).train) == 4


@pytest.mark.parametrize("file", ["test_set/train-0", "train/test"])
def test_a_file_whose_names_tell_two_parts_is_refused(tmp_path: Path, file: str) -> None:
    parquet(tmp_path / f"{file}.parquet")
    with pytest.raises(UserError, match=rf"{file}\.parquet tells two parts, test and train"):
        load("parquet", tmp_path)


def test_what_is_no_parquet_is_told(tmp_path: Path) -> None:
    parquet(tmp_path / "train.PARQUET")
    for name in ("README.md", "train.csv", ".gitattributes"):
        (tmp_path / name).write_text("x")
    parquet(tmp_path / "test.parquet")
    found = load("parquet", tmp_path)
    assert len(found.train) == 2
    assert found.notes[0].startswith("2 file(s) other than parquet are not read, for example")


@pytest.mark.parametrize("source", ["npz", "parquet"])
def test_a_test_label_that_training_lacks_is_named_as_it_stands(
    tmp_path: Path, source: str
) -> None:
    images, labels = RANDOM.integers(0, 255, (4, 8, 8), np.uint8), [1, 2, 1, 2]
    if source == "npz":
        arrays = {"train_labels": labels, "test_labels": [0, 1, 1, 1]}
        np.savez(tmp_path / "x.npz", train_images=images, test_images=images, **arrays)
    else:
        for part, numbers in (("train", [1, 2]), ("test", [0, 1])):
            parquet(tmp_path / f"{part}.parquet")
            table = pq.read_table(tmp_path / f"{part}.parquet").set_column(1, "label", [numbers])
            pq.write_table(table, tmp_path / f"{part}.parquet")
    with pytest.raises(UserError, match=r"label 0 is not in 1\.\.2, the labels of the training"):
        load(source, tmp_path / "x.npz" if source == "npz" else tmp_path)


def test_names_as_bytes_and_other_depths_in_npz(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 255, (4, 8, 8), np.uint8)

    def read(images: np.ndarray, labels: Any) -> DataSplits:
        np.savez(tmp_path / "x.npz", train_images=images, train_labels=np.array(labels))
        return load("npz", tmp_path / "x.npz")

    assert read(images, ["caf\u00e9".encode(), b"a"] * 2).train.class_names == ("a", "caf\u00e9")
    for wrong, words in (
        (images.astype(np.uint16), "scale to 0..255 and convert them to uint8"),
        (images / 255, "multiply values in 0..1 by 255 and convert"),
        (np.stack([images] * 2, 3), "give each image 1, 3 or 4 channels"),
    ):
        with pytest.raises(UserError, match=words):
            read(wrong, [0, 1, 0, 1])
    with pytest.raises(UserError, match="a class name is no UTF-8"):
        read(images, [b"caf\xe9", b"a"] * 2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a/\0.png 0", "line 3: .* holds a NUL"),
        (f"a/{'x' * 300}.png 0", "line 3: .* is too long for a path"),
        ("c/0.png 3", "1 class.es. without a single image: '2'"),
    ],
)
def test_a_line_of_a_class_list_is_named(tmp_path: Path, line: str, words: str) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        Image.fromarray(RANDOM.integers(0, 255, (8, 8, 3), np.uint8)).save(
            tmp_path / name / "0.png"
        )
    (tmp_path / "list.txt").write_text(f"a/0.png 0\nb/0.png 1\n{line}\n")
    lists = {"train_list": str(tmp_path / "list.txt"), "cache": str(tmp_path / "cache")}
    with pytest.raises(UserError, match=words):
        load("imagenet_lt", tmp_path, image_size=8, **lists)
