"""Files from elsewhere: none reaches beyond its own bytes, and none is counted in silence."""

import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig, RunConfig
from ltdd_ray.config.experts import ExpertsConfig
from ltdd_ray.data.load import DataSplits, load_data
from ltdd_ray.data.scan import scan_folder


def grey(value: int, mode: str = "RGB") -> Image.Image:
    return Image.new("L", (9, 7), value).convert(mode)


def png(value: int) -> bytes:
    buffer = BytesIO()
    grey(value).save(buffer, "png")
    return buffer.getvalue()


def fill(root: Path, *folders: str, count: int = 3) -> None:
    for at, name in enumerate(folders):
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            grey(20 * at + k).save(root / name / f"{k}.png")


def load(source: str, path: Path, **settings: Any) -> DataSplits:
    settings = {"test_fraction": 0.5, **settings}
    return load_data(DataConfig(source=source, path=str(path), **settings), 0)


def write(file: Path, labels: Any, names: Any = None, images: Any = None) -> None:
    """Row k of the file is an image of grey level k."""
    images = [{"bytes": png(k)} for k in range(len(labels))] if images is None else images
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        entry = (
            names
            if isinstance(names, str)
            else json.dumps({"info": {"features": {"label": {"names": names}}}})
        )
        table = table.replace_schema_metadata({b"huggingface": entry.encode()})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


def test_a_path_in_image_bytes_is_not_opened(tmp_path: Path) -> None:
    grey(77).save(tmp_path / "private.png")
    rows = pa.array([{"bytes": str(tmp_path / "private.png")}] * 4)
    write(tmp_path / "x.parquet", [0, 1, 0, 1], images=rows)
    with pytest.raises(UserError, match=r"expected a struct with the encoded image"):
        load("parquet", tmp_path / "x.parquet")


def test_postscript_called_jpg_starts_nothing(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "bin/gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    fill(tmp_path / "photos", "a", "b")
    (tmp_path / "photos/a/z.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    )
    for read in (
        lambda: load("imagefolder", tmp_path / "photos"),
        lambda: scan_folder(tmp_path / "photos"),
    ):
        with pytest.raises(UserError, match=r"z.jpg is not a readable image \(none of PNG"):
            read()
    assert not (tmp_path / "started").exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (MemoryError(), "does not fit into memory when it is decoded; free some"),
        (PermissionError(13, "Permission denied"), "cannot be read: permission denied; check the"),
        (OSError("image file is truncated"), "is not a readable image .* repair or remove it"),
    ],
)
def test_a_sound_image_is_not_called_damaged(tmp_path: Path, monkeypatch, fault, words) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise fault

    fill(tmp_path, "a", "b")
    monkeypatch.setattr(Image, "open", refused)
    for read in (lambda: load("imagefolder", tmp_path), lambda: scan_folder(tmp_path)):
        with pytest.raises(UserError, match=rf"a/0\.png {words}"):
            read()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (MemoryError("9 TiB"), r"holds 400 bytes .* \(9 TiB\); free some memory, or export"),
        (PermissionError(13, "Permission denied"), "cannot be read: Permission denied; check the"),
    ],
)
def test_a_sound_npz_is_not_called_damaged(tmp_path: Path, monkeypatch, fault, words) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise fault

    np.savez(tmp_path / "x.npz", train_images=np.zeros((2, 8, 8), np.uint8), train_labels=[0, 1])
    monkeypatch.setattr(np, "load", refused)
    with pytest.raises(UserError, match=rf"x\.npz {words}"):
        load("npz", tmp_path / "x.npz")


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "a", "b")
    os.mkfifo(tmp_path / "photos/a/z.jpg")
    with pytest.raises(UserError, match=r"z.jpg is not a regular file"):
        load("imagefolder", tmp_path / "photos")
    with pytest.raises(UserError, match=r"z.jpg is not a regular file"):
        scan_folder(tmp_path / "photos")
    os.mkfifo(tmp_path / "train.parquet")
    for source, place in (("npz", "train.parquet"), ("parquet", "train.parquet"), ("parquet", "")):
        with pytest.raises(UserError, match=r"neither a file nor a folder|not a regular file"):
            load(source, tmp_path / place)


@pytest.mark.parametrize("label", [2**32 - 1, 10**12, 2**63])
def test_an_absurd_label_is_refused_at_once(tmp_path: Path, label: int) -> None:
    labels = np.array([0, 1, 0, label], np.uint64)
    np.savez(tmp_path / "x.npz", train_images=np.zeros((4, 8, 8), np.uint8), train_labels=labels)
    with pytest.raises(UserError, match=rf"label {label}.*is too large"):
        load("npz", tmp_path / "x.npz")
    write(tmp_path / "x.parquet", labels)
    with pytest.raises(UserError, match=rf"label {label}.*is too large"):
        load("parquet", tmp_path / "x.parquet")
    (tmp_path / "list.txt").write_text(f"a/0.png 0\na/1.png {label}\n")
    lists = {"train_list": str(tmp_path / "list.txt"), "cache": str(tmp_path / "c")}
    with pytest.raises(UserError, match=rf"label {label}.*is too large|line 2"):
        load("imagenet_lt", tmp_path, image_size=8, **lists)


def test_labels_without_a_gap_may_begin_anywhere(tmp_path: Path) -> None:
    """Years, for example; with a gap the largest still asks for too many classes."""
    labels = np.array([2001, 2002, 2001, 2002, 2003, 2003])
    pixels = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", train_images=pixels, train_labels=labels)
    write(tmp_path / "x.parquet", labels)
    for source in ("npz", "parquet"):
        train = load(source, tmp_path / f"x.{source}").train
        assert train.class_names == ("2001", "2002", "2003")
        assert sorted(set(train.labels.tolist())) == [0, 1, 2]
    np.savez(tmp_path / "x.npz", train_images=pixels, train_labels=labels + (labels == 2003))
    with pytest.raises(UserError, match=r"label 2004 is too large for 6 images"):
        load("npz", tmp_path / "x.npz")


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    bomb = [{"bytes": bytes(40 * 2**20)}, {"bytes": bytes(40 * 2**20)}]
    table = pa.table({"image": bomb, "label": [0, 1]})
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(UserError, match=r"bytes unpack to"):
        load("parquet", tmp_path / "x.parquet")
    images = np.zeros((300, 1024, 1024), np.uint8)
    np.savez_compressed(tmp_path / "x.npz", train_images=images, train_labels=np.arange(300) % 2)
    with pytest.raises(UserError, match=r"bytes unpack to"):
        load("npz", tmp_path / "x.npz")


@pytest.mark.parametrize("text", ["{nope", "[1]", '{"info": 3}', [[1], 2], {"a": 1}, "[" * 10**5])
def test_malformed_metadata_is_a_sentence(tmp_path: Path, text: Any) -> None:
    write(tmp_path / "x.parquet", [0, 1] * 4, text)
    with pytest.raises(UserError, match=r"does not describe a ClassLabel"):
        load("parquet", tmp_path / "x.parquet")


@pytest.mark.parametrize("text", ['{"info": null}', "null", "{}"])
def test_metadata_without_names_numbers_the_classes(tmp_path: Path, text: str) -> None:
    write(tmp_path / "x.parquet", [0, 1] * 4, text)
    assert load("parquet", tmp_path / "x.parquet").train.class_names == ("0", "1")


def test_shards_are_matched_by_name(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.parquet", [0, 1], ["bright", "dark"])
    write(tmp_path / "train-00001-of-00002.parquet", [0, 1], ["dark", "bright"])
    write(tmp_path / "test-00000-of-00001.parquet", [0, 1], ["dark", "bright"])
    found = load("parquet", tmp_path)
    assert found.train.class_names == found.test.class_names == ("bright", "dark")
    assert found.train.labels.tolist() == [0, 1, 1, 0] and found.test.labels.tolist() == [1, 0]
    write(tmp_path / "test-00000-of-00001.parquet", [0, 1], ["dark", "blue"])
    with pytest.raises(UserError, match=r"names other classes .*'blue', 'bright'"):
        load("parquet", tmp_path)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pa.array(["owl", "cat", "cat", "owl"]), ("cat", "owl")),
        (pa.array(["owl", "cat", "cat", "owl"]).dictionary_encode(), ("cat", "owl")),
        (pa.array([2, 1, 1, 2]), ("1", "2")),
        (pa.array([1.0, 0.0, 0.0, 1.0]), ("0", "1")),
        (pa.array([True, False, False, True]), ("0", "1")),
    ],
)
def test_labels_whose_meaning_is_certain(tmp_path: Path, labels: pa.Array, names: tuple) -> None:
    write(tmp_path / "train.parquet", labels)
    write(tmp_path / "test.parquet", labels)
    found = load("parquet", tmp_path)
    assert found.train.class_names == names and found.train.labels.tolist() == [1, 0, 0, 1]
    assert found.test.labels.tolist() == [1, 0, 0, 1]


def test_class_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    labels = pa.array([b"caf\xe9", b"tea"] * 2).cast(pa.string(), safe=False)
    write(tmp_path / "x.parquet", labels)
    with pytest.raises(UserError, match=r"x\.parquet: a class name .* is no UTF-8 \(b'caf"):
        load("parquet", tmp_path / "x.parquet")


def test_missing_shards_and_second_downloads_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a/train-00001-of-00002.parquet", [0, 1])
    with pytest.raises(UserError, match=r"train-00000-of-00002.parquet is missing, 1 of 2"):
        load("parquet", tmp_path / "a")
    for name in ("train.parquet", "train (1).parquet"):
        write(tmp_path / "b" / name, [0, 1])
    with pytest.raises(UserError, match=r"train \(1\).parquet looks like a second download"):
        load("parquet", tmp_path / "b")


def test_parquet_files_that_are_not_read_are_told(tmp_path: Path) -> None:
    for name in ("train", "test", "extra", ".ipynb_checkpoints/train-checkpoint", "._train"):
        write(tmp_path / f"{name}.parquet", [0, 1])
    found = load("parquet", tmp_path)
    assert len(found.train) == 2
    assert [note.split(",")[0] for note in found.notes] == [
        "2 hidden parquet file(s) are not read",
        "1 parquet file(s) whose names tell another part or none are not read",
        "2 of 2 test images are pixel for pixel training images too",
    ]


@pytest.mark.parametrize("name", ["test", "Test", "testing", "val", "valid", "validation"])
@pytest.mark.parametrize("train", ["train", "Training"])
def test_parts_are_found_by_their_usual_names(tmp_path: Path, name: str, train: str) -> None:
    fill(tmp_path, *(f"{part}/{k}" for part in (train, name) for k in "ab"))
    assert len(load("imagefolder", tmp_path).test) == 6 and scan_folder(tmp_path).test


def test_two_spellings_of_a_part_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{part}/{k}" for part in ("train", "test", "Test") for k in "ab"))
    with pytest.raises(UserError, match=r"only one can be the test part"):
        load("imagefolder", tmp_path)


def test_what_a_folder_holds_besides_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "train/a", "train/b", "test/a", "test/b", "old/a", "train/b/indoor")
    fill(tmp_path, "train/.ipynb_checkpoints")
    for name in ("a/IMG_1.AVIF", "a/IMG_2.AVIF", "b/plain", "b/paper.pdf"):
        (tmp_path / "train" / name).write_bytes(b"x")
    told = [
        "1 folder(s) beside the parts are not read",
        "1 hidden folder(s) are not read",
        "2 file(s) with .avif are not read",
        "3 file(s) in subfolders of a class are not read",
        "1 file(s) with .pdf are not read",
        "1 file(s) with no extension are not read",
    ]
    found = load("imagefolder", tmp_path)
    assert [note.split(",")[0] for note in found.notes] == told
    assert [note.split(",")[0] for note in scan_folder(tmp_path).notes] == told
    assert len(found.train) == 6


def test_a_class_without_test_images_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "train/a", "train/b", "train/c", "test/a", "test/b")
    found = load("imagefolder", tmp_path)
    assert found.test.class_counts.tolist() == [3, 3, 0]
    (note,) = found.notes
    assert note.startswith("1 of 3 classes have no test images ('c'); accuracies leave them out")
    assert scan_folder(tmp_path).notes == (note,)


def test_accents_spelt_in_two_ways_are_one_class(tmp_path: Path) -> None:
    fill(tmp_path, "train/caf\u00e9", "train/tea", "test/cafe\u0301", "test/tea")
    assert load("imagefolder", tmp_path).test.class_names == ("caf\u00e9", "tea")
    fill(tmp_path, "train/cafe\u0301")
    with pytest.raises(UserError, match="two folders whose names read"):
        load("imagefolder", tmp_path)


def test_names_are_shown_escaped(tmp_path: Path) -> None:
    fill(tmp_path, os.fsdecode(b"caf\xe9"), "a\x1b[31m", "[b] x")
    names = load("imagefolder", tmp_path).train.class_names
    assert names == ("[b] x", "a\\x1b[31m", "caf\\udce9")
    assert tuple(scan_folder(tmp_path).class_counts) == names


def test_lists_with_a_byte_order_mark_or_another_encoding(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", count=2)
    listed = "a/0.png 0\na/1.png 0\nb/0.png 1\nb/1.png 1\n"
    file = tmp_path / "list.txt"
    settings: Any = {"train_list": str(file), "cache": str(tmp_path / "c"), "image_size": 8}
    file.write_text(listed, encoding="utf-8-sig")
    assert len(load("imagenet_lt", tmp_path, **settings).train) == 2
    file.write_text(listed, encoding="utf-16")
    with pytest.raises(UserError, match=r"is no UTF-8 text"):
        load("imagenet_lt", tmp_path, **settings)
    for outside in ("../x.png", "/etc/x.png"):
        file.write_text(f"{outside} 0\n")
        with pytest.raises(UserError, match=r"leads out of data.path"):
            load("imagenet_lt", tmp_path, **settings)


def test_the_image_cache_knows_the_images(tmp_path: Path) -> None:
    def make(root: str, add: int) -> None:
        for at, name in enumerate(("a", "b")):
            (tmp_path / root / name).mkdir(parents=True, exist_ok=True)
            for k in range(2):
                grey(add + 20 * at).save(tmp_path / root / name / f"{k}.png")

    (tmp_path / "list.txt").write_text("a/0.png 0\na/1.png 0\nb/0.png 1\nb/1.png 1\n")
    settings: Any = {"train_list": str(tmp_path / "list.txt"), "cache": str(tmp_path / "c")}

    def first(root: str) -> tuple[int, str]:
        train = load("imagenet_lt", tmp_path / root, image_size=8, **settings).train
        return int(train.images[:1].max()), train.fingerprint

    for root, level in (("one", 50), ("two", 200), ("copy", 50)):
        make(root, level)
    one, two, copy = first("one"), first("two"), first("copy")
    assert (one[0], two[0]) == (50, 200) and one[1] != two[1]
    assert one == copy  # the images count, not their place
    make("one", 120)
    assert first("one")[0] == 120 and first("one")[1] != one[1]


def test_npz_layouts_whose_meaning_is_certain(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"

    def read(images: np.ndarray, labels: Any) -> DataSplits:
        parts = {"train": images, "test": images}
        arrays = {f"{part}_images": value for part, value in parts.items()}
        np.savez(file, **arrays, **{f"{part}_labels": np.array(labels) for part in parts})
        return load("npz", file)

    first = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 10), np.uint8)
    assert (read(first, [0, 1, 0, 1]).train.images == first).all()
    assert (read(first.transpose(0, 2, 3, 1), [0, 1, 0, 1]).train.images == first).all()
    alpha = np.concatenate([first, np.full((4, 1, 8, 10), 255, np.uint8)], 1)
    alpha[:, 3, 0] = 0
    found = read(alpha.transpose(0, 2, 3, 1), [0, 1, 0, 1])
    assert (found.train.images[:, :, 0] == 255).all()
    assert (found.train.images[:, :, 1:] == first[:, :, 1:]).all()
    assert [note for note in found.notes if "laid on data.background white" in note] == list(
        found.notes[:2]
    )
    for labels, names in (
        ([[0, 1], [1, 0], [1, 0], [0, 1]], ("0", "1")),
        ([2, 1, 1, 2], ("1", "2")),
        (["owl", "cat", "cat", "owl"], ("cat", "owl")),
    ):
        found = read(first, labels)
        assert found.test.labels.tolist() == [1, 0, 0, 1] and found.train.class_names == names


def test_a_home_folder_is_expanded_in_every_key(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for key in ("path", "test_path", "train_list", "test_list", "cache"):
        config = DataConfig.model_validate({"source": "npz", key: "~/x"})
        assert getattr(config, key) == str(tmp_path / "x")
    with pytest.raises(ValueError, match=r"names no user"):
        DataConfig(source="npz", path="~no-such-user/x")
    assert ExpertsConfig(store="~/x").store == str(tmp_path / "x")
    run = RunConfig.model_validate(
        {"name": "x", "output": "~/runs", "data": {"source": "digits"}, "distill": {"ipc": 1}}
    )
    assert run.folder == tmp_path / "runs/x"
