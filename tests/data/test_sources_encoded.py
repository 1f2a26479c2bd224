"""Sources of encoded images, read from small generated files, and their errors."""

import json
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.sources import load_source


def _flat(value: int, size: tuple[int, int] = (9, 7), mode: str = "RGB") -> Image.Image:
    """An image of one grey level, recognisable after decoding. ``size`` is (width, height)."""
    return Image.new("L", size, value).convert(mode)


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def _write_parquet(
    path: Path, images: list[bytes | None], labels: list, names: list[str] | None = None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {"image": [{"bytes": image, "path": None} for image in images], "label": labels}
    )
    if names:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(features).encode()})
    pq.write_table(table, path)


def _write_folder(root: Path, classes: dict[str, list[Image.Image]]) -> None:
    for name, images in classes.items():
        (root / name).mkdir(parents=True)
        for k, image in enumerate(images):
            image.save(root / name / f"{k}.png")


def _levels(dataset) -> list[int]:
    """The grey level of each image."""
    return dataset.images[:, 0, 0, 0].tolist()


def _load(source: str, path: Path | str | None, **settings):
    return load_source(
        DataConfig(source=source, path=None if path is None else str(path), **settings)
    )


class TestTinyImagenet:
    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / "wnids.txt").write_text("n02\nn01\n")
        (tmp_path / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tsalamander\n")
        for k, wnid in enumerate(("n01", "n02")):
            folder = tmp_path / "train" / wnid / "images"
            folder.mkdir(parents=True)
            (folder.parent / f"{wnid}_boxes.txt").write_text("")
            for i in range(2):
                _flat(100 * k + 10 * i, (8, 8)).save(folder / f"{wnid}_{i}.JPEG", quality=100)
        (tmp_path / "val" / "images").mkdir(parents=True)
        _flat(200, (8, 8), "L").save(tmp_path / "val" / "images" / "val_0.JPEG", quality=100)
        _flat(50, (8, 8)).save(tmp_path / "val" / "images" / "val_1.JPEG", quality=100)
        (tmp_path / "val" / "val_annotations.txt").write_text(
            "val_0.JPEG\tn02\t0\t0\t62\t62\nval_1.JPEG\tn01\t0\t0\t62\t62\n"
        )
        return tmp_path

    def test_reads_the_distributed_folder(self, root):
        train, test = _load("tiny_imagenet", root)
        assert train.class_names == test.class_names == ("goldfish", "salamander")
        assert (_levels(train), train.labels.tolist()) == ([0, 10, 100, 110], [0, 0, 1, 1])
        assert (_levels(test), test.labels.tolist()) == ([200, 50], [1, 0])
        assert test.image_shape == (3, 8, 8)

    def test_without_words_the_ids_are_the_names(self, root):
        (root / "words.txt").unlink()
        assert _load("tiny_imagenet", root)[0].class_names == ("n01", "n02")

    def test_missing_annotations(self, root):
        (root / "val" / "val_annotations.txt").unlink()
        with pytest.raises(UserError, match=r"val_annotations.txt does not exist"):
            _load("tiny_imagenet", root)

    def test_unknown_annotation(self, root):
        (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn99\n")
        with pytest.raises(UserError, match=r"'n99' of 'val_0.JPEG' is not in wnids.txt"):
            _load("tiny_imagenet", root)

    def test_class_without_images(self, root):
        for file in (root / "train" / "n02" / "images").iterdir():
            file.unlink()
        with pytest.raises(UserError, match=r"without a single image: 'salamander'"):
            _load("tiny_imagenet", root)


class TestParquet:
    def test_folder_of_many_files(self, tmp_path):
        names = ["cat", "dog"]
        _write_parquet(
            tmp_path / "data/train-00001-of-00002.parquet", [_png(_flat(30))], [0], names
        )
        _write_parquet(
            tmp_path / "data/train-00000-of-00002.parquet",
            [_png(_flat(10)), _png(_flat(20))],
            [0, 1],
            names,
        )
        _write_parquet(
            tmp_path / "data/test-00000-of-00001.parquet",
            [_png(_flat(5)), _png(_flat(6))],
            [1, 0],
            names,
        )
        _write_parquet(
            tmp_path / "data/validation-00000-of-00001.parquet", [_png(_flat(7))], [1], names
        )
        _write_parquet(tmp_path / "data/extra.parquet", [_png(_flat(8))], [1], names)
        train, test = _load("parquet", tmp_path)
        assert (_levels(train), train.labels.tolist()) == ([10, 20, 30], [0, 1, 0])
        assert (_levels(test), test.labels.tolist()) == ([5, 6], [1, 0])
        assert train.class_names == test.class_names == ("cat", "dog")
        assert train.image_shape == (3, 7, 9)

    def test_validation_stands_in_for_test(self, tmp_path):
        _write_parquet(tmp_path / "train.parquet", [_png(_flat(1)), _png(_flat(2))], [0, 1])
        _write_parquet(tmp_path / "validation.parquet", [_png(_flat(3)), _png(_flat(4))], [0, 1])
        assert _levels(_load("parquet", tmp_path)[1]) == [3, 4]

    def test_single_files_by_uri_without_names(self, tmp_path):
        _write_parquet(
            tmp_path / "a.parquet", [_png(_flat(1, mode="L")), _png(_flat(2, mode="L"))], [0, 1]
        )
        _write_parquet(
            tmp_path / "b.parquet", [_png(_flat(3, mode="L")), _png(_flat(4, mode="L"))], [0, 1]
        )
        uri = (tmp_path / "a.parquet").as_uri()
        train, test = _load("parquet", uri, test_path=str(tmp_path / "b.parquet"))
        assert (_levels(train), _levels(test)) == ([1, 2], [3, 4])
        assert train.class_names == ("0", "1")
        assert train.image_shape == (1, 7, 9)
        assert _load("parquet", uri)[1] is None

    @pytest.mark.parametrize(
        ("images", "labels", "message"),
        [
            (
                [_png(_flat(1)), b"\x89PNG broken"],
                [0, 1],
                r"train.parquet row 1 is not a readable image",
            ),
            (
                [_png(_flat(1)), _png(_flat(1))[:-30]],
                [0, 1],
                r"train.parquet row 1 is not a readable image",
            ),
            ([_png(_flat(1)), None], [0, 1], r"row 1 has no image bytes"),
            (
                [_png(_flat(1)), _png(_flat(1, (8, 8)))],
                [0, 1],
                r"row 0 is 9 x 7 .* row 1 is 8 x 8; set data.image_size",
            ),
            ([_png(_flat(1)), _png(_flat(1))], [0, 2], r"without a single image: '1'"),
            ([_png(_flat(1)), _png(_flat(1))], [0, -1], r"label -1 lies outside 0..0"),
            ([_png(_flat(1)), _png(_flat(1))], [0, None], r"1 rows have no label"),
            (
                [_png(_flat(1)), _png(_flat(1))],
                [[0], [1]],
                r"label is list<.*>; expected whole numbers 0..C-1 or class names",
            ),
        ],
    )
    def test_bad_rows(self, tmp_path, images, labels, message):
        _write_parquet(tmp_path / "train.parquet", images, labels)
        with pytest.raises(UserError, match=message):
            _load("parquet", tmp_path)

    def test_bad_columns(self, tmp_path):
        pq.write_table(pa.table({"img": [b""], "label": [0]}), tmp_path / "a.parquet")
        with pytest.raises(UserError, match=r"columns \['img', 'label'\] but no image"):
            _load("parquet", tmp_path)
        pq.write_table(pa.table({"image": ["x.png"], "label": [0]}), tmp_path / "a.parquet")
        with pytest.raises(UserError, match=r"column image is string; expected a struct"):
            _load("parquet", tmp_path)

    def test_broken_file(self, tmp_path):
        (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
        with pytest.raises(UserError, match=r"train.parquet is not a readable parquet file"):
            _load("parquet", tmp_path)

    def test_damaged_pages(self, tmp_path):
        file = tmp_path / "train.parquet"
        _write_parquet(file, [_png(_flat(1))], [0])
        blob = bytearray(file.read_bytes())
        blob[4:40] = bytes(36)
        file.write_bytes(blob)
        with pytest.raises(UserError, match=r"column 'image' is damaged"):
            _load("parquet", tmp_path)

    def test_missing_places(self, tmp_path):
        with pytest.raises(UserError, match=r"data.path is missing"):
            _load("parquet", None)
        with pytest.raises(UserError, match=r"data.path: .*nowhere does not exist"):
            _load("parquet", tmp_path / "nowhere")
        with pytest.raises(UserError, match=r"holds no .parquet files"):
            _load("parquet", tmp_path)
        with pytest.raises(UserError, match=r"data.path gopher://x cannot be reached"):
            _load("parquet", "gopher://x")
        _write_parquet(tmp_path / "only/test.parquet", [_png(_flat(1))], [0])
        with pytest.raises(UserError, match=r"no parquet file is called train\*"):
            _load("parquet", tmp_path / "only")
        _write_parquet(tmp_path / "other/train.parquet", [_png(_flat(1))], [0])
        with pytest.raises(
            UserError, match=r"data.test_path .*: no parquet file is called test\* or val\*"
        ):
            _load("parquet", tmp_path / "other", test_path=str(tmp_path / "other"))


class TestImagefolder:
    def test_train_and_test_inside(self, tmp_path):
        _write_folder(tmp_path / "train", {"b": [_flat(1), _flat(2)], "a": [_flat(3)]})
        _write_folder(tmp_path / "test", {"a": [_flat(4)], "b": [_flat(5)]})
        (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
        train, test = _load("imagefolder", tmp_path)
        assert train.class_names == test.class_names == ("a", "b")
        assert (_levels(train), train.labels.tolist()) == ([3, 1, 2], [0, 1, 1])
        assert (_levels(test), test.labels.tolist()) == ([4, 5], [0, 1])

    def test_classes_at_the_top(self, tmp_path):
        _write_folder(tmp_path / "images", {"a": [_flat(1)], "train": [_flat(2)]})
        _write_folder(tmp_path / "held", {"a": [_flat(3)], "train": [_flat(4)]})
        train, test = _load("imagefolder", tmp_path / "images")
        assert (train.class_names, test) == (("a", "train"), None)
        test = _load("imagefolder", tmp_path / "images", test_path=str(tmp_path / "held"))[1]
        assert _levels(test) == [3, 4]

    def test_modes(self, tmp_path):
        _write_folder(
            tmp_path,
            {"a": [_flat(9, mode="L"), _flat(9, mode="RGBA")], "b": [_flat(9, mode="P"), _flat(9)]},
        )
        images = _load("imagefolder", tmp_path)[0].images
        assert images.shape == (4, 3, 7, 9)
        assert (images == 9).all()

    def test_grey_set_keeps_one_channel(self, tmp_path):
        _write_folder(tmp_path, {"a": [_flat(9, mode="L")], "b": [_flat(255, mode="1")]})
        assert _load("imagefolder", tmp_path)[0].images[:, :, 0, 0].tolist() == [[9], [255]]

    def test_sizes_are_made_one(self, tmp_path):
        _write_folder(tmp_path, {"a": [_flat(9)], "b": [_flat(8, (20, 30))]})
        train, _ = _load("imagefolder", tmp_path, image_size=12)
        assert train.image_shape == (3, 12, 12)
        assert _levels(train) == [9, 8]

    def test_sixteen_bit_is_refused(self, tmp_path):
        _write_folder(tmp_path, {"a": [Image.new("I;16", (8, 8), 1000)]})
        with pytest.raises(UserError, match=r"a/0.png has more than 8 bits"):
            _load("imagefolder", tmp_path)

    def test_corrupt_file_is_named(self, tmp_path):
        _write_folder(tmp_path, {"a": [_flat(1)], "b": [_flat(2)]})
        (tmp_path / "b" / "0.png").write_bytes(b"nothing")
        with pytest.raises(
            UserError, match=r"b/0.png is not a readable image .*; repair or remove it"
        ):
            _load("imagefolder", tmp_path)

    def test_missing_parts(self, tmp_path):
        with pytest.raises(UserError, match=r"has no class folders"):
            _load("imagefolder", tmp_path)
        (tmp_path / "a").mkdir()
        with pytest.raises(UserError, match=r"holds no image files"):
            _load("imagefolder", tmp_path)
        _write_folder(tmp_path, {"b": [_flat(1)]})
        with pytest.raises(UserError, match=r"without a single image: 'a'"):
            _load("imagefolder", tmp_path)
        with pytest.raises(UserError, match=r"data.test_path: .*nowhere does not exist"):
            _load("imagefolder", tmp_path, test_path=str(tmp_path / "nowhere"))
