"""Generated files: a loader returns images or raises ``UserError``, and nothing else."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.load import load_data

FEW = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def outcome(source: str, write: Callable[[Path], Path]) -> str:
    """What loading ``source`` from the path that ``write`` returns ends in."""
    with TemporaryDirectory() as folder:
        try:
            path = write(Path(folder))
        except (OSError, ValueError, pa.ArrowException):  # this machine cannot hold such a file
            return "not written"
        try:
            load_data(DataConfig(source=source, path=str(path), test_fraction=0.5), 0)
        except UserError as error:
            assert str(error)
            str(error).encode()  # a terminal and a page can show it
            return "refused"
        return "read"


def encoded() -> list[bytes]:
    files = []
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"):
        for kind in ("png", "jpeg", "tiff", "gif"):
            buffer = BytesIO()
            try:
                Image.new(mode, (8, 8)).save(buffer, kind)
            except (OSError, ValueError, KeyError):
                continue
            files.append(buffer.getvalue())
    return files


SOUND = encoded()
FILES = (
    some.sampled_from(SOUND)
    | some.binary(max_size=60)
    | some.builds(
        lambda file, at, byte: file[: at % len(file)] + bytes([byte]) + file[at % len(file) + 1 :],
        some.sampled_from(SOUND),
        some.integers(0, 10_000),
        some.integers(0, 255),
    )
    | some.builds(lambda file, end: file[:end], some.sampled_from(SOUND), some.integers(0, 400))
)
ANY_ARRAY = arrays.arrays(
    dtype=arrays.scalar_dtypes() | arrays.unicode_string_dtypes(max_len=4),
    shape=arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
)
IMAGES = ANY_ARRAY | arrays.arrays(np.uint8, some.tuples(some.just(4), *[some.integers(0, 5)] * 3))
LABELS = ANY_ARRAY | arrays.arrays(
    some.sampled_from([np.int64, np.uint64, np.int8, np.float32, np.bool_]), 4
)


@FEW
@given(some.fixed_dictionaries({"train_images": IMAGES, "train_labels": LABELS}))
@example({"train_images": np.zeros((4, 8, 8), np.uint8), "train_labels": np.array([0, 1, 0, 1])})
def test_npz(arrays: dict[str, Any]) -> None:
    def write(folder: Path) -> Path:
        np.savez(folder / "x.npz", **arrays)
        return folder / "x.npz"

    assert outcome("npz", write) in ("read", "refused")


ANY_JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=4),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=3), inner),
    max_leaves=5,
)
METADATA = some.binary(max_size=8) | some.builds(
    lambda names: json.dumps({"info": {"features": {"label": {"names": names}}}}).encode(), ANY_JSON
)
COLUMNS = (
    some.lists(some.integers(-(2**63), 2**63 - 1) | some.none(), min_size=4, max_size=4)
    | some.lists(some.integers(0, 2), min_size=4, max_size=4)
    | some.lists(some.floats(), min_size=4, max_size=4)
    | some.lists(some.text(max_size=4), min_size=4, max_size=4)
    | some.lists(some.dates(), min_size=4, max_size=4)
)


@FEW
@given(some.lists(FILES | some.none(), min_size=4, max_size=4), COLUMNS, METADATA)
@example(SOUND[:1] * 4, [0, 1, 0, 1], b"{}")
def test_parquet(images: list[bytes | None], labels: list[Any], metadata: bytes) -> None:
    def write(folder: Path) -> Path:
        table = pa.table({"image": [{"bytes": image} for image in images], "label": labels})
        table = table.replace_schema_metadata({b"huggingface": metadata})
        pq.write_table(table, folder / "x.parquet")
        return folder / "x.parquet"

    assert outcome("parquet", write) in ("read", "refused", "not written")


PATHS = some.lists(
    some.sampled_from(["train", "test", "Test", "a", "b", ".x", "[/b]"]) | some.text(max_size=4),
    max_size=3,
)
NAMES = some.builds(str.__add__, some.text(max_size=4), some.sampled_from([".png", ".JPG", ""]))


@FEW
@given(some.lists(some.tuples(PATHS, NAMES, FILES), max_size=8))
@example([([name], f"{k}.png", SOUND[0]) for name in "ab" for k in range(2)])
def test_imagefolder(files: list[tuple[list[str], str, bytes]]) -> None:
    def write(folder: Path) -> Path:
        for steps, name, content in files:
            file = folder.joinpath(*steps, name)
            if folder not in file.resolve().parents:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return folder

    assert outcome("imagefolder", write) in ("read", "refused", "not written")
