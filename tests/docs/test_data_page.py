"""Each row of the tables of docs/data.md does what its second column says."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
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
    "`CLASS/1.heic`, `CLASS/1.pdf`, `CLASS/1`": ["a/1.heic", "a/1.pdf", "a/1"],
    "`CLASS/inside/1.png`": ["a/inside/1.png"],
    "`.hidden/1.png`, `__MACOSX/1.png`": [".hidden/1.png", "__MACOSX/1.png"],
    "`train` beside `old/CLASS/1.png`": ["train/a/1.png", "train/b/1.png", "old/a/1.png"],
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


def check(source: str, path: Path, outcome: str) -> None:
    config = DataConfig(source=source, path=str(path))
    if outcome.startswith("refused"):
        with pytest.raises(UserError):
            load_source(config)
        return
    train, test = load_source(config)
    assert any("not read" in note for note in train.notes) == outcome.startswith("passed over")
    assert (test is not None) == ("test part" in outcome)
    assert sorted(train.labels.tolist()) == ([0, 1] if source == "imagefolder" else [0, 0, 1, 1])


def test_every_row_is_checked() -> None:
    assert {row for row, _ in ROWS} == {*FOLDERS, *LABELS, *ARRAYS}
    assert f"**Formats**: {', '.join(FORMATS)}." in PAGE


@pytest.mark.parametrize(("row", "outcome"), ROWS)
def test_a_row(tmp_path: Path, row: str, outcome: str) -> None:
    if row in FOLDERS:
        files = FOLDERS[row]
        plain = (
            [] if any(f.startswith(("train", "Train")) for f in files) else ["a/0.png", "b/0.png"]
        )
        for name in (*plain, *files):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8)).save(tmp_path / name, "png")
        check("imagefolder", tmp_path, outcome)
    for labels in LABELS.get(row, []):
        Image.new("L", (8, 8)).save(tmp_path / "x.png")
        images = [{"bytes": (tmp_path / "x.png").read_bytes()}] * 4
        pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "x.parquet")
        check("parquet", tmp_path / "x.parquet", outcome)
    for images, labels in ARRAYS.get(row, []):
        np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels)
        check("npz", tmp_path / "x.npz", outcome)
