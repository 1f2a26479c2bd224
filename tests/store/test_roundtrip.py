import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from storekit import data_file, make_header, make_layout, names, vectors, write

from ltdd_ray.common.errors import UserError
from ltdd_ray.store import Expectation, TrajectoryStore, TrajectoryWriter, collect_garbage


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("scheme", ["", "file://", "remote"])
def test_reads_what_was_written(tmp_path, remote, dtype, scheme):
    uri = remote if scheme == "remote" else f"{scheme}{tmp_path}/deep/store"
    header = make_header(3, dtype=dtype)
    tuned = make_header(3, "classifier", dtype=dtype)
    write(uri, header, [0, 1, 5])
    write(uri, tuned)

    store = TrajectoryStore.open(uri)
    assert [m.header for m in store.trajectories()] == [header, tuned]
    assert store.epochs(3, "representation") == (0, 1, 5)
    for epoch in (5, 0, 1):
        backbone, classifier = store.read(3, "representation", epoch)
        expected = vectors(header, epoch)
        assert backbone is not None and backbone.dtype == classifier.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(backbone.numpy(), expected["backbone"])
        np.testing.assert_array_equal(classifier.numpy(), expected["classifier"])
    assert store.read(3, "classifier", 2)[0] is None
    assert store.trajectories()[0].final_metrics == {"train_loss": 1 / 6, "test_accuracy": 0.25}
    assert store.verify() == []


def test_segment_takes_the_frozen_backbone_from_the_representation_stage(tmp_path):
    header, tuned = make_header(1), make_header(1, "classifier")
    write(tmp_path, header, range(3))
    write(tmp_path, tuned)
    store = TrajectoryStore.open(str(tmp_path))

    segment = store.segment(1, "representation", 0, 2)
    for got, name, epoch in zip(segment, ["backbone", "classifier"] * 2, [0, 0, 2, 2]):
        np.testing.assert_array_equal(got.numpy(), vectors(header, epoch)[name])
    segment = store.segment(1, "classifier", 1, 3)
    np.testing.assert_array_equal(segment.start_backbone.numpy(), vectors(header, 2)["backbone"])
    np.testing.assert_array_equal(segment.target_backbone.numpy(), vectors(header, 2)["backbone"])
    np.testing.assert_array_equal(segment.start_classifier.numpy(), vectors(tuned, 1)["classifier"])
    np.testing.assert_array_equal(
        segment.target_classifier.numpy(), vectors(tuned, 3)["classifier"]
    )


def test_theta_is_backbone_and_classifier_of_the_last_or_any_epoch(tmp_path):
    header, tuned = make_header(1), make_header(1, "classifier")
    write(tmp_path, header, range(3))
    write(tmp_path, tuned)
    store = TrajectoryStore.open(str(tmp_path))
    last = store.epochs(1, "classifier")[-1]
    for stage, epoch, backbone, classifier in (
        ("representation", None, vectors(header, 2), vectors(header, 2)),
        ("representation", 1, vectors(header, 1), vectors(header, 1)),
        ("classifier", None, vectors(header, 2), vectors(tuned, last)),
        ("classifier", 1, vectors(header, 2), vectors(tuned, 1)),
    ):
        expected = np.concatenate([backbone["backbone"], classifier["classifier"]])
        np.testing.assert_array_equal(store.theta(1, stage, epoch).numpy(), expected)


def test_torch_tensors_are_accepted(tmp_path):
    with TrajectoryWriter(str(tmp_path), make_header()) as writer:
        writer.append(
            0,
            torch.arange(4.0, requires_grad=True),
            torch.arange(6.0),
            {"train_loss": float("nan")},
        )
    backbone, classifier = TrajectoryStore.open(str(tmp_path)).read(0, "representation", 0)
    assert (
        backbone is not None
        and backbone.tolist() == [0, 1, 2, 3, 4, 5]
        and classifier.tolist() == [0, 1, 2, 3]
    )
    assert TrajectoryStore.open(str(tmp_path)).trajectories()[0].final_metrics == {}


def test_what_was_appended_may_be_overwritten_at_once(tmp_path):
    layout = make_layout(300_000, 10)
    with TrajectoryWriter(str(tmp_path), make_header(layout=layout)) as writer:
        theta = np.zeros(300_010, np.float32)  # as a training loop that steps in place
        for epoch in range(4):
            theta += 1
            writer.append(epoch, theta[300_000:], theta[:300_000])
        theta[:] = -1
    store = TrajectoryStore.open(str(tmp_path))
    assert store.verify() == []
    assert [float(store.read(0, "representation", epoch)[1].sum()) for epoch in range(4)] == [
        10,
        20,
        30,
        40,
    ]


def test_the_data_file_is_plain_arrow(tmp_path):
    header = make_header()
    write(tmp_path, header)
    with pa.memory_map(str(data_file(tmp_path))) as source:
        reader = pa.ipc.open_file(source)
        assert reader.schema.names == [
            "epoch",
            "backbone",
            "classifier",
            "train_loss",
            "train_accuracy",
            "test_accuracy",
        ]
        assert reader.schema.metadata[b"seed"] == b"4611686018427387905"
        table = reader.read_all()
        assert reader.num_record_batches == 4 and table["epoch"].to_pylist() == [0, 1, 2, 3]
        assert table["backbone"][2].as_py() == vectors(header, 2)["backbone"].tolist()
        assert table["train_accuracy"].to_pylist() == [None] * 4


def test_a_read_maps_one_row_and_loads_no_other(tmp_path):
    big = make_header(layout=make_layout(400_000, 1000))
    write(tmp_path, big, range(8))
    store = TrajectoryStore.open(str(tmp_path))
    backbone, _ = store.read(0, "representation", 6)
    assert backbone is not None
    start, private, resident = _mapping(data_file(tmp_path), backbone.data_ptr())
    assert private and start <= backbone.data_ptr()
    # The row is 1.6 MB of 12.8 MB; the kernel may map up to 64 kB around a page that was touched.
    assert 1_600_000 <= resident <= 1_600_000 + 2 * 65536
    assert len(pickle.dumps(backbone)) < 1_700_000


def _mapping(path: Path, address: int) -> tuple[int, bool, int]:
    """Start, privacy and resident bytes of the mapping of ``path`` around ``address``."""
    inside, found = False, (0, False)
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            low, high = (int(x, 16) for x in words[0].split("-"))
            inside = low <= address < high and words[-1] == str(path)
            found = (low, words[1].endswith("p")) if inside else found
        elif inside and words[0] == "Rss:":
            return *found, int(words[1]) * 1024
    raise AssertionError("the tensor does not lie in a mapping of the file")


def test_writing_into_a_tensor_changes_neither_file_nor_later_reads(tmp_path):
    write(tmp_path, make_header())
    before = data_file(tmp_path).read_bytes()
    store = TrajectoryStore.open(str(tmp_path))
    classifier = store.read(0, "representation", 1)[1]
    classifier.zero_()
    assert data_file(tmp_path).read_bytes() == before
    np.testing.assert_array_equal(
        store.read(0, "representation", 1)[1].numpy(), vectors(make_header(), 1)["classifier"]
    )


def test_missing_lists_what_is_not_finished_in_plan_order(tmp_path):
    plan = [make_header(e, s) for e in (2, 0, 1) for s in ("representation", "classifier")]
    store = TrajectoryStore.open(str(tmp_path / "new"), create=True)
    assert store.missing(plan) == plan
    write(tmp_path / "new", plan[2])
    write(tmp_path / "new", plan[5])
    assert store.missing(plan) == [plan[0], plan[1], plan[3], plan[4]]
    with pytest.raises(UserError, match=r"expert 0 .*another config .*another output folder"):
        store.missing([make_header(0, identity="other")])


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        (
            Expectation(layout=make_layout(7)),
            "another architecture .*10 parameters.*now 11 .*another output folder",
        ),
        (
            Expectation(dataset_fingerprint="cats"),
            "another dataset .*dataset, now cats.*another output folder",
        ),
        (Expectation(config_fingerprint="other"), "another config .*another output folder"),
    ],
)
def test_a_store_made_for_something_else_is_refused(tmp_path, expect, words):
    store = TrajectoryStore.open(str(tmp_path), expect=expect)
    write(tmp_path, make_header())
    with pytest.raises(UserError, match=words):
        TrajectoryStore.open(str(tmp_path), expect=expect)
    with pytest.raises(UserError, match=words):
        store.read(0, "representation", 0)
    same = Expectation(make_layout(), "dataset", "config")
    assert len(TrajectoryStore.open(str(tmp_path), expect=same).trajectories()) == 1


def test_epochs_and_trajectories_that_are_not_there(tmp_path):
    write(tmp_path, make_header())
    store = TrajectoryStore.open(str(tmp_path))
    with pytest.raises(UserError, match=r"no epoch 9 \(it keeps 4 epochs from 0 to 3\); lower"):
        store.segment(0, "representation", 1, 9)
    with pytest.raises(UserError, match="no classifier trajectory of expert 0; train"):
        store.read(0, "classifier", 0)


def test_places_that_are_no_store(tmp_path):
    with pytest.raises(UserError, match="no trajectory store here"):
        TrajectoryStore.open(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no trajectory store here"):
        collect_garbage(str(tmp_path / "nowhere"))
    assert names(tmp_path) == []
    with pytest.raises(UserError, match="not a place to store"):
        TrajectoryStore.open("nonsense://somewhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot open the trajectory store"):
        TrajectoryStore.open(str(tmp_path / "file" / "store"), create=True)
    with pytest.raises(UserError, match="cannot write a trajectory"):
        write(tmp_path / "file" / "store", make_header())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epoch": 1, "classifier": np.zeros(4)}, "backbone that is missing"),
        (
            {"epoch": 1, "classifier": np.zeros(5), "backbone": np.zeros(6)},
            r"classifier has shape \(5,\)",
        ),
        ({"epoch": 0, "classifier": np.zeros(4), "backbone": np.zeros(6)}, "epochs must increase"),
        (
            {
                "epoch": 1,
                "classifier": np.zeros(4),
                "backbone": np.zeros(6),
                "metrics": {"loss": 1},
            },
            "unknown metrics",
        ),
    ],
)
def test_wrong_rows_are_refused_and_leave_nothing(tmp_path, arguments, words):
    with (
        pytest.raises(ValueError, match=words),
        TrajectoryWriter(str(tmp_path), make_header()) as writer,
    ):
        writer.append(0, **vectors(make_header(), 0))
        writer.append(**arguments)
    assert names(tmp_path) == []


def test_a_trajectory_without_rows_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="without a single epoch"),
        TrajectoryWriter(str(tmp_path), make_header()),
    ):
        pass
    assert names(tmp_path) == []


def test_values_beyond_float16_are_refused(tmp_path):
    header = make_header(stage="classifier", dtype="float16")
    with (
        pytest.raises(UserError, match="holds 70000, beyond what float16"),
        TrajectoryWriter(str(tmp_path), header) as writer,
    ):
        writer.append(0, np.array([1, 2, 3, -7e4], np.float32))
    assert names(tmp_path) == []
