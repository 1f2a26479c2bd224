import json
import os
import resource
import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from storekit import data_file, flip, make_header, make_layout, manifest_file, names, vectors, write

from ltdd_ray.common.errors import UserError
from ltdd_ray.store import Manifest, TrajectoryStore, TrajectoryWriter, collect_garbage
from ltdd_ray.store.location import storage_errors


@pytest.fixture
def store(tmp_path) -> Path:
    for stage in ("representation", "classifier"):
        write(tmp_path, make_header(0, stage))
    return tmp_path


def kinds(path: Path) -> list[tuple[str, str]]:
    return [(p.kind, p.file) for p in TrajectoryStore.open(str(path)).verify()]


# Arrow keeps the schema twice, at the head and in the footer, from which it is read.
@pytest.mark.parametrize(
    "place", ["magic", "schema at the head", "data", "schema in the footer", "footer length"]
)
def test_a_flipped_byte_of_a_data_file_is_found(store, place):
    path = data_file(store)
    data = path.read_bytes()
    value = vectors(make_header(), 2)["classifier"].tobytes()
    positions = {
        "magic": 0,
        "schema at the head": data.index(b"identity-0"),
        "data": data.index(value) + 3,
        "schema in the footer": data.rindex(b"identity-0"),
        "footer length": len(data) - 10,
    }
    flip(path, positions[place])
    assert kinds(store) == [
        ("foreign" if place == "schema in the footer" else "altered", path.name)
    ]


def test_whichever_byte_of_a_data_file_is_flipped_no_wrong_number_is_read(tmp_path):
    write(tmp_path, make_header(), range(2))
    path, expected = data_file(tmp_path), [vectors(make_header(), epoch) for epoch in range(2)]
    original, refused = path.read_bytes(), 0
    for position in range(len(original)):
        flip(path, position)
        reader = TrajectoryStore.open(str(tmp_path))
        assert len(reader.verify()) == 1, position
        for epoch in range(2):
            for name, values in expected[epoch].items():
                try:
                    found = reader.column(0, "representation", epoch, name)
                except UserError as error:
                    assert "was altered; delete" in str(error)
                    refused += 1
                else:
                    np.testing.assert_array_equal(found.numpy(), values)
        path.write_bytes(original)
    assert refused == 2 * 10 * 4  # a flipped byte of a value takes one column of one row with it


def test_wherever_a_data_file_is_cut_the_cut_is_found(tmp_path):
    write(tmp_path, make_header(), range(2))
    path = data_file(tmp_path)
    original = path.read_bytes()
    for size in range(len(original)):
        path.write_bytes(original[:size])
        reader = TrajectoryStore.open(str(tmp_path))
        assert [problem.kind for problem in reader.verify()] == ["cut"] and reader.missing(
            [make_header()]
        ) != []
        with pytest.raises(UserError, match=r"bytes, not the \d+ written; delete"):
            reader.read(0, "representation", 1)


def test_stray_temporaries_are_no_problem_and_are_removed(store):
    for name in (
        f"expert-0000.representation.{'a' * 32}.tmp",
        f"expert-0005.classifier.{'b' * 32}.tmp",
    ):
        (store / name).write_bytes(b"half a file")
    reader = TrajectoryStore.open(str(store))
    assert len(reader.trajectories()) == 2 and reader.verify() == []
    np.testing.assert_array_equal(
        reader.read(0, "representation", 1)[1].numpy(), vectors(make_header(), 1)["classifier"]
    )
    assert len(collect_garbage(str(store))) == 2 and len(names(store)) == 4


def test_a_foreign_file_stops_neither_reader_nor_writer(store):
    foreign = ["expert_0.pt", "expert-0000.representation.json.bak", "notes.txt"]
    for name in foreign:
        (store / name).write_bytes(b"not ours")
    write(store, make_header(1))
    reader = TrajectoryStore.open(str(store))
    assert len(reader.trajectories()) == 3 and reader.verify() == []
    assert collect_garbage(str(store)) == [] and set(foreign) < set(names(store))


def test_an_altered_row_is_never_read(store):
    path = data_file(store)
    flip(path, path.read_bytes().index(vectors(make_header(), 2)["backbone"].tobytes()))
    reader = TrajectoryStore.open(str(store))
    with pytest.raises(
        UserError,
        match=r"epoch 2 was altered; delete expert-0000.representation.json and run again",
    ):
        reader.read(0, "representation", 2)
    np.testing.assert_array_equal(
        reader.read(0, "representation", 1)[1].numpy(), vectors(make_header(), 1)["classifier"]
    )


def test_a_flipped_byte_anywhere_in_a_manifest_is_found(store):
    path = manifest_file(store)
    original = path.read_bytes()
    for position in range(len(original)):
        flipped = (
            original[:position] + bytes([original[position] ^ 0x10]) + original[position + 1 :]
        )
        with pytest.raises(
            UserError, match=r"manifest is damaged; delete|format version .* reads version 1 only"
        ):
            Manifest.from_bytes(flipped, "here")
    flip(path, len(original) // 2)
    reader = TrajectoryStore.open(str(store))
    with pytest.raises(UserError, match="manifest is damaged"):
        reader.trajectories()
    assert kinds(store) == [("manifest", path.name)]
    with pytest.raises(UserError, match="manifest is damaged"):
        reader.missing([make_header()])
    assert collect_garbage(str(store)) == []  # its data file may still be wanted


@pytest.mark.parametrize("size", [0, 100, -1])
def test_a_cut_file_is_found_and_written_anew(store, size):
    path = data_file(store)
    data = path.read_bytes()
    path.write_bytes(data[:size])
    assert kinds(store) == [("cut", path.name)]
    reader = TrajectoryStore.open(str(store))
    with pytest.raises(UserError, match=r"bytes, not the \d+ written; delete"):
        reader.read(0, "representation", 0)
    assert reader.missing([make_header()]) == [make_header()]
    write(store, make_header())
    assert kinds(store) == [] and len(names(store)) == 4


def test_a_file_cut_or_removed_under_an_open_reader(store):
    reader = TrajectoryStore.open(str(store))
    reader.read(0, "representation", 0)
    path = data_file(store)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="cut or removed; delete"):
        reader.read(0, "representation", 3)
    path.unlink()
    with pytest.raises(UserError, match="cut or removed; delete"):
        reader.read(0, "representation", 0)


def test_a_missing_file_is_found_and_written_anew(store):
    name = data_file(store).name
    (store / name).unlink()
    assert kinds(store) == [("missing", name)]
    reader = TrajectoryStore.open(str(store))
    with pytest.raises(UserError, match="data file is missing; delete"):
        reader.read(0, "representation", 0)
    assert reader.missing([make_header()]) == [make_header()]
    write(store, make_header())
    assert kinds(store) == []


def test_files_of_another_run_are_found(store, tmp_path):
    other = tmp_path / "other"
    changed = {"identity": "other", "dataset_fingerprint": "other"}
    write(other, make_header(0, **changed))
    write(other, make_header(7, **changed))
    path = data_file(store)
    original = path.read_bytes()

    path.write_bytes(data_file(other).read_bytes().ljust(len(original), b"\0")[: len(original)])
    assert [kind for kind, _ in kinds(store)] in (["altered"], ["foreign"], ["cut"])
    path.write_bytes(original)

    stray = store / data_file(other, 7).name
    stray.write_bytes(data_file(other, 7).read_bytes())
    (store / "buffer_0.arrow").write_bytes(b"from elsewhere")
    assert sorted(kinds(store)) == sorted([("foreign", stray.name), ("foreign", "buffer_0.arrow")])
    manifest_file(store, 7).write_bytes(manifest_file(other, 7).read_bytes())
    assert kinds(store) == [
        ("foreign", "expert-0007.representation.json"),
        ("foreign", "buffer_0.arrow"),
    ]
    manifest_file(store, 8).write_bytes(manifest_file(other, 7).read_bytes())
    assert ("manifest", "expert-0008.representation.json") in kinds(store)


def test_another_runs_data_of_the_same_size_is_named_so(store, tmp_path):
    other = tmp_path / "other"
    write(other, make_header(0, identity="Identity-0-representation"))
    data_file(store).write_bytes(data_file(other).read_bytes())
    assert kinds(store) == [("foreign", data_file(store).name)]


def test_a_newer_version_is_refused_and_kept(store):
    path = manifest_file(store)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    for act in (
        lambda: TrajectoryStore.open(str(store)).trajectories(),
        lambda: write(store, make_header()),
    ):
        with pytest.raises(
            UserError, match=r"format version 2, but this program reads version 1 only; use"
        ):
            act()
    assert kinds(store) == [("manifest", path.name)] and collect_garbage(str(store)) == []
    assert len(names(store)) == 4


def test_another_identity_is_refused_before_writing(store):
    before = names(store)
    with (
        pytest.raises(UserError, match="another config"),
        TrajectoryWriter(str(store), make_header(identity="other")),
    ):
        pytest.fail("entered")
    assert names(store) == before


def test_an_exception_inside_the_block_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), TrajectoryWriter(str(tmp_path), make_header()) as writer:
        writer.append(0, **vectors(make_header(), 0))
        assert len(names(tmp_path)) == 1
        raise KeyboardInterrupt
    assert names(tmp_path) == []


@pytest.mark.parametrize("victim", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_failing_commit_leaves_nothing(tmp_path, monkeypatch, victim, call):
    real, calls = {"os.fsync": os.fsync, "os.replace": os.replace}[victim], []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(victim, failing)
    with pytest.raises(
        UserError, match="cannot write a trajectory: No space left on device; check"
    ):
        write(tmp_path, make_header())
    assert names(tmp_path) == []
    write(tmp_path, make_header())
    assert kinds(tmp_path) == []


def test_a_file_size_limit_is_one_sentence_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(UserError, match="cannot write a trajectory: File too large; check"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            write(tmp_path, make_header(layout=make_layout(10_000, 10)), range(9))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


def test_a_commit_flushes_each_file_before_and_its_folder_after_the_rename(tmp_path, monkeypatch):
    events, replace = [], os.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: events.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"),
    )
    monkeypatch.setattr(
        os, "replace", lambda a, b: (events.append(f"rename {b.suffix}"), replace(a, b))
    )
    write(tmp_path, make_header())
    assert events == ["file", "rename .arrow", "folder", "file", "rename .json", "folder"]


def test_an_error_of_arrow_is_one_sentence():
    """Azure's file system raises no OSError where it finds no credentials."""
    text = "Check for support on 'abfs://c/x?sig=KEY' failed.\nSee https://aka.ms/azsdk"
    with (
        pytest.raises(
            UserError, match=r"store: cannot open it: Check .* failed; check the address"
        ),
        storage_errors("store", "open it"),
    ):
        raise pa.ArrowException(text)
    with pytest.raises(UserError) as caught, storage_errors("store", "open it"):
        raise pa.ArrowException(text)
    assert "KEY" not in str(caught.value) and "\n" not in str(caught.value)
