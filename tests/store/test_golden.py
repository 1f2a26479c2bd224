"""A store of format version 1, in ``golden/v1``, stays readable, also from docs/store.md alone.

It is never written again. A change of the format gets its own folder beside it.
"""

import hashlib
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ltdd_ray.common.layout import Parameter, ParameterLayout
from ltdd_ray.store import TrajectoryStore, TrajectoryWriter

GOLDEN = Path(__file__).parent / "golden" / "v1"
TRAJECTORIES = [(0, "representation"), (0, "classifier"), (1, "representation"), (1, "classifier")]
EPOCHS = {"representation": (0, 1, 2, 5), "classifier": (0, 1)}
DTYPES = {0: "float32", 1: "float16"}


def golden_values(expert: int, stage: str, epoch: int) -> dict[str, np.ndarray]:
    """Exact in both dtypes."""
    theta = expert + epoch / 8 + np.arange(17) / 64 * (-1.0) ** np.arange(17)
    return ({"backbone": theta[:8]} if stage == "representation" else {}) | {
        "classifier": theta[8:]
    }


def golden_metrics(stage: str, epoch: int) -> dict[str, float]:
    trained = {"train_loss": 1 / (1 + epoch), "train_accuracy": epoch / 8} if epoch else {}
    return trained | ({"test_accuracy": 0.75} if epoch == EPOCHS[stage][-1] else {})


@pytest.mark.parametrize(("expert", "stage"), TRAJECTORIES)
def test_a_reader_made_from_the_specification_alone(expert, stage):
    """Uses nothing of the package, and Arrow only to read the same numbers a second time."""
    raw = (GOLDEN / f"expert-{expert:04d}.{stage}.json").read_bytes()
    manifest = json.loads(raw)
    assert manifest["format"] == "ltdd_ray.trajectory" and manifest["format_version"] == 1
    first, body = raw.split(b"\n", 1)
    assert first == b'{"checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'",'
    assert (manifest["expert"], manifest["stage"], manifest["dtype"]) == (
        expert,
        stage,
        DTYPES[expert],
    )
    assert manifest["seed"] == 2**62 + 1 and manifest["class_counts"] == [50, 16, 5]
    layout = manifest["layout"]
    assert [(p["name"], p["offset"]) for p in layout["parameters"]][2] == (
        "classifier.weight",
        layout["backbone_size"],
    )
    total = sum(int(np.prod(p["shape"])) for p in layout["parameters"])
    sizes = {"backbone": layout["backbone_size"], "classifier": total - layout["backbone_size"]}

    data = (GOLDEN / manifest["file"]).read_bytes()
    assert len(data) == manifest["bytes"] and hashlib.sha256(data).hexdigest() == manifest["sha256"]
    element = {"float32": "<f4", "float16": "<f2"}[manifest["dtype"]]
    assert tuple(row["epoch"] for row in manifest["rows"]) == EPOCHS[stage]
    for row in manifest["rows"]:
        expected = golden_values(expert, stage, row["epoch"])
        assert row["metrics"] == golden_metrics(stage, row["epoch"]) and set(row["columns"]) == set(
            expected
        )
        for name, column in row["columns"].items():
            values = np.frombuffer(data, element, sizes[name], column["offset"])
            assert zlib.crc32(values.tobytes()) == column["crc32"]
            np.testing.assert_array_equal(values, expected[name])

    reader = pa.ipc.open_file(data)
    for key in ("format", "format_version", "identity", "layout", "seed", "dtype"):
        assert json.loads(reader.schema.metadata[key.encode()]) == manifest[key]
    assert reader.num_record_batches == len(EPOCHS[stage])
    table = reader.read_all()
    assert table["epoch"].to_pylist() == list(EPOCHS[stage])
    metrics = ["train_loss", "train_accuracy", "test_accuracy"]
    assert table.column_names == ["epoch", *golden_values(expert, stage, 0), *metrics]
    for record in table.to_pylist():
        assert {m: record[m] for m in metrics if record[m] is not None} == golden_metrics(
            stage, record["epoch"]
        )
        for name, expected in golden_values(expert, stage, record["epoch"]).items():
            np.testing.assert_array_equal(record[name], expected)


def test_this_version_reads_it():
    store = TrajectoryStore.open(str(GOLDEN))
    assert [(m.header.expert, m.header.stage) for m in store.trajectories()] == TRAJECTORIES
    for expert, stage in TRAJECTORIES:
        assert store.epochs(expert, stage) == EPOCHS[stage]
        for epoch in EPOCHS[stage]:
            for name, expected in golden_values(expert, stage, epoch).items():
                np.testing.assert_array_equal(
                    store.column(expert, stage, epoch, name).numpy(), expected
                )


def test_this_version_finds_it_sound_and_writes_the_same(tmp_path):
    for path in GOLDEN.iterdir():  # verify takes locks, which a read-only checkout refuses
        shutil.copy(path, tmp_path / path.name)
    golden = TrajectoryStore.open(str(tmp_path))
    assert golden.verify() == []
    assert golden.trajectories()[0].header.layout == ParameterLayout(
        (
            Parameter("backbone.0.weight", (2, 3), 0),
            Parameter("backbone.0.bias", (2,), 6),
            Parameter("classifier.weight", (3, 2), 8),
            Parameter("classifier.bias", (3,), 14),
        ),
        backbone_size=8,
    )
    for manifest in golden.trajectories():
        header = manifest.header
        with TrajectoryWriter(str(tmp_path / "new"), header) as writer:
            for epoch in EPOCHS[header.stage]:
                writer.append(
                    epoch,
                    **golden_values(header.expert, header.stage, epoch),
                    metrics=golden_metrics(header.stage, epoch),
                )
    written = TrajectoryStore.open(str(tmp_path / "new")).trajectories()
    assert [m.header for m in written] == [m.header for m in golden.trajectories()]
    tables = [
        [pa.ipc.open_file((folder / m.file).read_bytes()).read_all() for m in manifests]
        for folder, manifests in ((tmp_path, golden.trajectories()), (tmp_path / "new", written))
    ]
    for old, new in zip(*tables):
        assert new.equals(old, check_metadata=True)
