"""Each row of the tables of docs/data.md does what its second column says."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.config.data import SOURCES
from ltdd_ray.data.load import load_data
from ltdd_ray.data.sources import load_source
from ltdd_ray.data.sources.decode import FORMATS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
ROWS = [
    (cells[1].strip(), cells[2].strip())
    for cells in (line.split("|") for line in PAGE.splitlines() if line.startswith("| "))
    if cells[2].strip() != "what happens"
]
FOLDERS = {  # row -> files besides a/*.png and b/*.png (below train/ in the rows of parts)
    "`CLASS/1.png`": [],
    "`train/CLASS/1.png`, `Training/CLASS/1.png`": ["Training/a/1.png", "Training/b/1.png"],
    "`test/CLASS/1.png`, `testing`, `val`, `valid`, `validation`": [
        *(f"{part}/{k}/1.png" for part in ("train", "valid") for k in "ab")
    ],
    "`CLASS/1.pdf`, `CLASS/1`": ["a/1.pdf", "a/1"],
    "`CLASS/1.heic`": ["a/1.heic"],
    "`CLASS/inside/1.png`": ["a/inside/1.png"],
    "`.hidden/1.png`, `__MACOSX/1.png`": [".hidden/1.png", "__MACOSX/1.png"],
    "`train` beside `old/CLASS/1.png`": ["train/a/1.png", "train/b/1.png", "old/a/1.png"],
    "`train` beside `test/OTHER/1.png`": [
        *(f"{part}/{k}/1.png" for part in ("train", "test") for k in "ab"),
        "test/OTHER/1.png",
    ],
    "`test` beside `Test`": [f"{p}/{k}/1.png" for p in ("train", "test", "Test") for k in "ab"],
}
WORDS, NUMBERS = pa.array(["b", "a", "a", "b"]), pa.array([1, 0, 0, 1])
LABELS = {
    "`int64`, `uint8`, whole `double`, `bool`": [
        NUMBERS.cast(kind) for kind in (pa.int64(), pa.uint8(), pa.float64(), pa.bool_())
    ],
    "`string`, `dictionary` of strings": [WORDS, WORDS.dictionary_encode()],
    "`1..C` without names": [pa.array([2, 1, 1, 2])],
    "`list`": [pa.array([[1], [0], [0], [1]])],
}
GREY, L = np.zeros((4, 8, 9), np.uint8), np.array([1, 0, 0, 1])
ARRAYS = {
    "images `(N, H, W)`": [(GREY, L)],
    "images `(N, H, W, K)`": [(np.stack([GREY] * k, 3), L) for k in (1, 3, 4)],
    "images `(N, K, H, W)`": [(np.stack([GREY] * k, 1), L) for k in (1, 3, 4)],
    "float images": [(GREY / 255, L)],
    "labels `(N,)`, `(N, 1)`": [
        (GREY, L),
        (GREY, L[:, None]),
        (GREY, np.array(["b", "a", "a", "b"])),
    ],
    "labels `(N, C)`": [(GREY, np.eye(2)[L])],
}

LISTS = {  # row -> lists of lines, each besides one line for each class
    "`a/1.png 0`, `b/my photo.png 1`": [["a/1.png 0", "b/my photo.png 1"]],
    "`/a/1.png 0`, `../a/1.png 0`": [["/a/1.png 0"], ["../a/1.png 0"]],
    "`a/1.png`, `a/1.png -1`, `a/1.png x`, an empty line": [
        *(["a/1.png"], ["a/1.png -1"], ["a/1.png x"], ["", "a/1.png 0"])
    ],
    "`a/none.png 0`": [["a/none.png 0"]],
}
TINY = {  # row -> files besides those of a whole set, and the line added to val_annotations.txt
    "`train/ID/images/1.png`, with every `ID` in `wnids.txt`": (["train/n1/images/1.png"], ""),
    "`val/images/1.png`, with its `ID` in `val/val_annotations.txt`": (
        ["val/images/1.png"],
        "1.png\tn1",
    ),
    "no `words.txt`": ([], ""),
    "`test/images/1.png`, `train/OTHER/images/1.png`": (
        ["test/images/1.png", "train/n9/images/1.png"],
        "",
    ),
    "an `ID` in `val_annotations.txt` that `wnids.txt` lacks": ([], "0.png\tn9"),
    "a path, as `../1.png`, in `val_annotations.txt`": (["val/1.png"], "../1.png\tn1"),
}


def check(source: str, path: Path, outcome: str) -> None:
    config = DataConfig(source=source, path=str(path))
    if outcome.startswith("refused"):
        with pytest.raises(UserError):  # classes are compared where the parts are brought together
            load_data(config, 0) if outcome.endswith("alone") else load_source(config)
        return
    train, test = load_source(config)
    assert any("not read" in note for note in train.notes) == outcome.startswith("passed over")
    assert (test is not None) == ("test part" in outcome)
    assert sorted(train.labels.tolist()) == ([0, 1] if source == "imagefolder" else [0, 0, 1, 1])


def test_every_row_is_checked() -> None:
    assert {row for row, _ in ROWS} == {*FOLDERS, *LABELS, *ARRAYS, *LISTS, *TINY}
    assert len(ROWS) == len(FOLDERS) + len(LABELS) + len(ARRAYS) + len(LISTS) + len(TINY)
    assert f"**Formats**: {', '.join(FORMATS)}." in PAGE


@pytest.mark.parametrize("source", SOURCES.built_in)
def test_every_source_has_a_section(source: str) -> None:
    titles = [line for line in PAGE.splitlines() if line.startswith("## ")]
    assert any(f"`{source}`" in title for title in titles)


@pytest.mark.parametrize(("row", "outcome"), [one for one in ROWS if one[0] in LISTS])
def test_a_row_of_class_lists(tmp_path: Path, row: str, outcome: str) -> None:
    for k, lines in enumerate(LISTS[row]):
        root = tmp_path / str(k)
        for name in ("a/0.png", "a/1.png", "b/0.png", "b/my photo.png"):
            save(root / name)
        (root / "list.txt").write_text("\n".join(["a/0.png 0", "b/0.png 1", *lines]))
        config = DataConfig(
            source="imagenet_lt",
            path=str(root),
            train_list=str(root / "list.txt"),
            cache=str(root / "cache"),
            image_size=8,
        )
        if outcome.startswith("refused"):
            with pytest.raises(UserError, match=r"list\.txt|none\.png"):
                load_source(config)
        else:
            train, _ = load_source(config)
            assert train.labels.tolist() == [0, 1, 0, 1] and train.class_names == ("a", "b")


@pytest.mark.parametrize(("row", "outcome"), [one for one in ROWS if one[0] in TINY])
def test_a_row_of_tiny_imagenet(tmp_path: Path, row: str, outcome: str) -> None:
    files, line = TINY[row]
    for name in ("train/n1/images/0.png", "train/n2/images/0.png", "val/images/0.png", *files):
        save(tmp_path / name)
    (tmp_path / "wnids.txt").write_text("n1\nn2\n")
    (tmp_path / "val/val_annotations.txt").write_text("\n".join(["0.png\tn2", line]).strip())
    config = DataConfig(source="tiny_imagenet", path=str(tmp_path))
    if outcome.startswith("refused"):
        with pytest.raises(UserError, match=r"val_annotations\.txt"):
            load_source(config)
        return
    train, test = load_source(config)
    assert test is not None and train.class_names == ("n1", "n2")
    assert any("not read" in note for note in train.notes) == outcome.startswith("passed over")
    assert train.class_counts.tolist() == [1 + ("training part" in outcome), 1]
    assert test.class_counts.tolist() == [int("test part" in outcome), 1]


def save(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(file, "png")


@pytest.mark.parametrize(("row", "outcome"), ROWS)
def test_a_row(tmp_path: Path, row: str, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltdd_ray.data.sources.heic.readable", lambda: False)
    if row in FOLDERS:
        files = FOLDERS[row]
        plain = (
            [] if any(f.startswith(("train", "Train")) for f in files) else ["a/0.png", "b/0.png"]
        )
        for name in (*plain, *files):
            save(tmp_path / name)
            if name.endswith(".heic"):
                (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
        check("imagefolder", tmp_path, outcome)
    for labels in LABELS.get(row, []):
        Image.new("L", (8, 8)).save(tmp_path / "x.png")
        images = [{"bytes": (tmp_path / "x.png").read_bytes()}] * 4
        pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "x.parquet")
        check("parquet", tmp_path / "x.parquet", outcome)
    for images, labels in ARRAYS.get(row, []):
        np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels)
        check("npz", tmp_path / "x.npz", outcome)
