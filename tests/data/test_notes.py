"""Notes: conversions that change pixels, images that stand twice, all that is not read."""

import os
import struct
import zlib
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
from ltdd_ray.data.scan import scan_folder

RANDOM = np.random.default_rng(0)


def picture(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 255, (8, 8, 3), np.uint8)).convert(mode)


def fill(root: Path, *folders: str, count: int = 2) -> None:
    for name in folders:
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            picture().save(root / name / f"{k}.png")


def load(source: str, path: Path, **settings: Any) -> DataSplits:
    return load_data(
        DataConfig(source=source, path=str(path), **{"test_fraction": 0.5, **settings}), 0
    )


def deep_png() -> bytes:
    """An image of 8 x 8 pixels with 16 bits per channel, a form that Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + RANDOM.bytes(8 * 6) for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def encoded(kind: str) -> tuple[str, bytes]:
    """(file name, content) of one image that needs a conversion."""
    buffer, turned = BytesIO(), Image.Exif()
    turned[0x0112] = 3
    if kind == "deep":
        return "x.png", deep_png()
    if kind == "transparent":
        image = picture("RGBA")
        image.putalpha(0)
        image.save(buffer, "png")
        return "x.png", buffer.getvalue()
    if kind == "animated":
        picture("P").save(buffer, "gif", save_all=True, append_images=[picture("P")])
        return "x.gif", buffer.getvalue()
    if kind in ("cmyk", "grey"):
        picture("CMYK" if kind == "cmyk" else "L").save(buffer, "jpeg")
        return "x.jpg", buffer.getvalue()
    picture().save(buffer, kind, exif=turned)
    return f"x.{kind}", buffer.getvalue()


CONVERSIONS = {
    "jpeg": "were turned upright",
    "png": "were turned upright",
    "tiff": "were turned upright",
    "webp": "were turned upright",
    "transparent": "have transparent pixels and were laid on data.background black",
    "animated": "hold several pictures",
    "deep": "have 16 bits per channel",
    "cmyk": "are CMYK and became RGB",
    "grey": "are grey and became RGB",
}


def imagenet(root: Path, **settings: Any) -> DataSplits:
    files = sorted(file.relative_to(root) for file in root.glob("?/*.*"))
    listed = "".join(f"{file} {'ab'.index(file.parts[0])}\n" for file in files)
    beside = root.with_name(f"{root.name}_lists")
    beside.mkdir(exist_ok=True)
    (beside / "list.txt").write_text(listed)
    lists = {"train_list": str(beside / "list.txt"), "cache": str(beside), "image_size": 8}
    return load("imagenet_lt", root, **lists, **settings)


@pytest.mark.parametrize("source", ["imagefolder", "parquet", "imagenet_lt"])
@pytest.mark.parametrize("kind", CONVERSIONS)
def test_a_conversion_is_told(tmp_path: Path, source: str, kind: str) -> None:
    fill(tmp_path, "a", "b")
    name, content = encoded(kind)
    (tmp_path / "a" / name).write_bytes(content)
    if source == "parquet":
        files = sorted(tmp_path.glob("?/*.*"))
        images = [{"bytes": file.read_bytes()} for file in files]
        labels = [file.parent.name for file in files]
        pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "x.parquet")
        found = load("parquet", tmp_path / "x.parquet", background="black")
    else:
        loader = imagenet if source == "imagenet_lt" else lambda *a, **k: load(source, *a, **k)
        found = loader(tmp_path, background="black")
    (note,) = found.notes
    assert note.startswith(f"1 image(s) {CONVERSIONS[kind]}") and "for example" in note


@pytest.mark.parametrize("source", ["imagefolder", "parquet"])
def test_resized_images_are_told_once(tmp_path: Path, source: str) -> None:
    fill(tmp_path, "a", "b")
    for size in ((16, 16), (16, 16), (20, 10)):
        picture().resize(size).save(tmp_path / "a" / f"{len(list(tmp_path.glob('a/*')))}.png")
    path = tmp_path
    if source == "parquet":
        files, path = sorted(tmp_path.glob("?/*.*")), tmp_path / "x.parquet"
        images = [{"bytes": file.read_bytes()} for file in files]
        pq.write_table(pa.table({"image": images, "label": [f.parent.name for f in files]}), path)
    assert load(source, path, image_size=8).notes == (
        "3 image(s) of 2 sizes, up to 16 x 16, are resized to 8 x 8 pixels, data.image_size, which "
        "distorts those that are not square",
    )
    with pytest.raises(UserError, match="images differ in size"):
        load(source, path)


def test_resized_arrays_are_told_once(tmp_path: Path) -> None:
    images, labels = RANDOM.integers(0, 255, (6, 8, 8), np.uint8), np.repeat([0, 1], 3)
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels)
    assert load("npz", tmp_path / "x.npz", image_size=16).notes[-1] == (
        "6 image(s) of size 8 x 8 are resized to 16 x 16 pixels, data.image_size"
    )
    assert "size 8 x 8" in load("digits", tmp_path, test_fraction=None, image_size=16).notes[0]
    assert not load("digits", tmp_path, test_fraction=None, image_size=8).notes


def test_sound_images_of_one_kind_need_no_note(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    assert load("imagefolder", tmp_path).notes == imagenet(tmp_path).notes == ()
    for file in tmp_path.glob("?/*.png"):
        Image.open(file).convert("L").save(file)
    assert load("imagefolder", tmp_path).notes == ()  # all are grey and stay so
    (note,) = imagenet(tmp_path).notes  # its images are always in colour
    assert note.startswith("4 image(s) are grey and became RGB")
    assert imagenet(tmp_path).notes == (note,)  # from the cache


@pytest.mark.parametrize("loader", [imagenet, lambda root: load("imagefolder", root)])
def test_images_that_stand_twice_are_counted(tmp_path: Path, loader: Any) -> None:
    fill(tmp_path, "a", "b", count=30)
    for copy in ("a/0 (1).png", "a/0 copy.png", "b/0.png"):
        (tmp_path / copy).write_bytes((tmp_path / "a/0.png").read_bytes())
    found = loader(tmp_path)
    digests = [image.tobytes() for image in found.train.images[:]]
    twice = len(digests) - len(set(digests))
    across = sum(image.tobytes() in digests for image in found.test.images[:])
    assert twice + across == 3  # four equal images, of which one is no copy
    notes = [note for note in found.notes if "pixel for pixel" in note]
    assert [note.split(" ")[0] for note in notes] == [str(n) for n in (twice, across) if n]


def test_a_copy_under_another_class_is_told(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 255, (6, 8, 8), np.uint8)
    images[5] = images[4] = images[0]
    parts = {"train_images": images, "train_labels": [0, 1, 0, 1, 0, 1]}
    np.savez(tmp_path / "x.npz", **parts, test_images=images[1:3], test_labels=[1, 0])
    assert [note.split(";")[0] for note in load("npz", tmp_path / "x.npz").notes] == [
        "2 of 6 training images are pixel for pixel copies of another one, and 1 image(s) stand in "
        "several classes",
        "2 of 2 test images are pixel for pixel training images too, which raises the accuracy",
    ]


def test_arrays_that_are_not_read_are_told(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 255, (4, 8, 8), np.uint8)
    parts = {f"{part}_images": images + k for k, part in enumerate(("train", "test", "val"))}
    labels = {f"{part}_labels": [0, 1, 0, 1] for part in ("train", "test", "val")}
    np.savez(tmp_path / "x.npz", **parts, **labels)
    (note,) = load("npz", tmp_path / "x.npz").notes
    assert note.endswith("x.npz: 2 array(s) are not read, for example val_images")


def test_what_lies_beside_a_test_part_of_its_own_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "all/train/a", "all/train/b", "all/test/a", "own/a", "own/b", "own/a/inside")
    found = load("imagefolder", tmp_path / "all", test_path=str(tmp_path / "own"))
    assert [note.split(",")[0] for note in found.notes] == [
        "1 folder(s) beside the parts are not read",
        "2 file(s) in subfolders of a class are not read",
    ]


def test_folders_of_tiny_imagenet_that_are_not_read_are_told(tmp_path: Path) -> None:
    fill(tmp_path, "train/n1/images", "train/n2/images", "train/n9/images", "val/images")
    fill(tmp_path, "test/images", count=3)
    (tmp_path / "wnids.txt").write_text("n1\nn2\n")
    (tmp_path / "val/val_annotations.txt").write_text("0.png\tn1\n1.png\tn2\n")
    assert [note.split(",")[0] for note in load("tiny_imagenet", tmp_path).notes] == [
        "1 folder(s) of train whose name is not in wnids.txt are not read",
        "3 file(s) of test have no labels and are not read",
    ]


@pytest.mark.parametrize("name", ["Cat", "cat ", "bird"])
def test_test_classes_without_training_images_are_refused_by_init_too(
    tmp_path: Path, name: str
) -> None:
    fill(tmp_path, "train/cat", "train/dog", "test/dog", f"test/{name}")
    near = ", where 'cat' is near" if name != "bird" else ""
    words = f"the first being {name!r}, are not in the training part{near}; give them"
    for read in (lambda: load("imagefolder", tmp_path), lambda: scan_folder(tmp_path)):
        with pytest.raises(UserError, match=words):
            read()


@pytest.mark.timeout(60)
def test_a_pipe_called_heic_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    os.mkfifo(tmp_path / "a/z.heic")
    for read in (lambda: load("imagefolder", tmp_path), lambda: scan_folder(tmp_path)):
        with pytest.raises(UserError, match=r"z\.heic is not a regular file"):
            read()
