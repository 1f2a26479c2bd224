"""HEIC photos: read upright with pillow-heif, refused by name without it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.scan import scan_folder
from ltdd_ray.data.sources import heic, load_source

HEAD = b"\0\0\0\x18ftypheic" + bytes(100)  # how such a file begins
REMEDY = "is a HEIC photo; `pip install pillow-heif` to read it, or convert it to JPEG"


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """pillow-heif cannot be imported."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic.readable.cache_clear()
    yield
    heic.readable.cache_clear()


def folder(root: Path) -> Path:
    for part in ("train", "test"):
        for name in "ab":
            (root / part / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(root / part / name / "0.png")
    return root


@pytest.mark.parametrize("place", ["train/b/1.HEIC", "test/b/1.heif"])
def test_without_the_package_photos_are_refused_by_name(
    absent: None, tmp_path: Path, place: str
) -> None:
    photo = folder(tmp_path) / place
    photo.write_bytes(HEAD)
    for read in (
        lambda: scan_folder(tmp_path),
        lambda: load_source(DataConfig(source="imagefolder", path=str(tmp_path))),
    ):
        with pytest.raises(UserError, match=f"{place} ") as caught:
            read()
        assert REMEDY in str(caught.value)


def test_without_the_package_photos_of_other_sources_are_refused(
    absent: None, tmp_path: Path
) -> None:
    images = [{"bytes": HEAD}] * 4
    pq.write_table(pa.table({"image": images, "label": [0, 0, 1, 1]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet row 0 is a HEIC photo; `pip install pillow-"):
        load_source(DataConfig(source="parquet", path=str(tmp_path / "x.parquet")))


def test_a_jpeg_called_heic_is_read_by_its_content(absent: None, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 90).save(folder(tmp_path) / "train/a/1.heic", "jpeg")
    train, _ = load_source(DataConfig(source="imagefolder", path=str(tmp_path)))
    assert scan_folder(tmp_path).class_counts == {"a": 2, "b": 1}
    assert train.images.max() == 90 and train.class_counts.tolist() == [2, 1]


def test_with_the_package_photos_are_read_upright(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = 250  # the upper left quarter is bright
    photo = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274] = 6  # a viewer turns it by 90 degrees clockwise
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            heif = pillow_heif.from_pillow(photo)
            heif.save(tmp_path / part / name / "1.heic", exif=exif.tobytes(), quality=-1)
    heic.readable.cache_clear()
    scan = scan_folder(tmp_path)
    assert scan.sizes == {(32, 48)} and scan.colour
    train, _ = load_source(DataConfig(source="imagefolder", path=str(tmp_path)))
    assert train.images.shape == (2, 3, 48, 32)
    quarters = train.images[0].reshape(3, 2, 24, 2, 16).mean((0, 2, 4)).round()
    assert quarters[0, 1] > 200 and quarters[0, 0] < 30 and quarters[1].max() < 30


def test_with_the_package_a_damaged_photo_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    (folder(tmp_path) / "train/b/1.heic").write_bytes(HEAD)
    heic.readable.cache_clear()
    with pytest.raises(UserError, match=r"1\.heic is not a readable image"):
        load_source(DataConfig(source="imagefolder", path=str(tmp_path)))
