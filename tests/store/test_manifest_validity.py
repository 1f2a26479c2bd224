"""Manifests whose checksum is right and whose values are not; reads that the system refuses."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generatedkit import DROP, altered, generated, set_at
from hypothesis import given
from hypothesis import strategies as st
from storekit import data_file, make_header, manifest_file, vectors, write

from ltdd_ray.common.errors import UserError
from ltdd_ray.store import Manifest, TrajectoryStore


def sealed(tree: dict[str, Any]) -> bytes:
    """A manifest of ``tree`` with the right checksum."""
    body = json.dumps({key: value for key, value in tree.items() if key != "checksum"})[1:].encode()
    return f'{{"checksum": "{hashlib.sha256(body).hexdigest()}",\n'.encode() + body


COLUMN = ("rows", 1, "columns", "classifier")
WRONG = {
    "dtype": (("dtype",), "float64", "dtype is 'float64'"),
    "no rows": (("rows",), [], "not a single row"),
    "rows are text": (("rows",), "many", "not a single row"),
    "no identity": (("identity",), DROP, "identity is missing"),
    "no bytes": (("bytes",), DROP, "bytes is missing"),
    "no layout": (("layout",), DROP, "layout has no list"),
    "expert is a text": (("expert",), "0", "expert is '0'"),
    "stage": (("stage",), "both", "stage is 'both'"),
    "checksum of the data": (("sha256",), "ab", "sha256 is 'ab'"),
    "class counts": (("class_counts",), [50, -5], "class_counts is"),
    "shape": (("layout", "parameters", 0, "shape"), [-6], "has the shape"),
    "start of a parameter": (("layout", "parameters", 1, "offset"), 5, "starts at 5, not at 6"),
    "backbone": (("layout", "backbone_size"), 7, "backbone has 7 of 10"),
    "negative offset": ((*COLUMN, "offset"), -8, "has the offset -8"),
    "offset past the end": ((*COLUMN, "offset"), 10**12, "before the end of the classifier"),
    "offset of another row": ((*COLUMN, "offset"), 0, "before the end of"),
    "offset is a fraction": ((*COLUMN, "offset"), 8.5, "has the offset 8.5"),
    "crc32": ((*COLUMN, "crc32"), 2**32, "has the crc32"),
    "a column too few": (COLUMN, DROP, "does not have the columns"),
    "a column is a number": (COLUMN, 5, "does not have an offset"),
    "epochs fall": (("rows", 0, "epoch"), 2, "do not increase"),
    "epoch is a truth": (("rows", 1, "epoch"), True, "a row has the epoch True"),
    "metric": (("rows", 1, "metrics", "train_loss"), "low", "not a finite number"),
    "unknown metric": (("rows", 1, "metrics", "colour"), 1.0, "metrics of epoch 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_under_a_right_checksum_is_named(tmp_path, case):
    path, value, words = WRONG[case]
    write(tmp_path, make_header(), range(3))
    file = manifest_file(tmp_path)
    tree = json.loads(file.read_text())
    set_at(tree, path, value)
    file.write_bytes(sealed(tree))
    store = TrajectoryStore.open(str(tmp_path))
    (problem,) = [p for p in store.verify() if p.kind == "manifest"]
    assert words in problem.message and "delete this file and run again" in problem.message
    with pytest.raises(UserError, match="the manifest is damaged"):
        store.read(0, "representation", 1)
    with pytest.raises(UserError, match="the manifest is damaged"):
        store.missing([make_header()])


# Values that a writer can make, but not of this data file.
FOREIGN = {
    "dtype": ((("dtype",), "float16"), "another dtype"),
    "seed": ((("seed",), 1), "another seed"),
    "epoch": ((("rows", 2, "epoch"), 9), "other epochs"),
    "offset": ((("rows", 2, "columns", "classifier", "offset"), 4), "is not at byte"),
    "crc32": ((("rows", 2, "columns", "classifier", "crc32"), 1), "is not at byte"),
    "a row too few": ((("rows", 2), DROP), "other epochs"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_verify_compares_the_manifest_with_its_data_file(tmp_path, case):
    (path, value), words = FOREIGN[case]
    write(tmp_path, make_header(), range(3))
    file = manifest_file(tmp_path)
    tree = json.loads(file.read_text())
    if case == "offset":  # a few bytes further on
        value += tree["rows"][2]["columns"]["classifier"]["offset"]
    set_at(tree, path, value)
    file.write_bytes(sealed(tree))
    (problem,) = TrajectoryStore.open(str(tmp_path)).verify()
    assert problem.kind == "manifest" and problem.file == file.name
    assert words in problem.message and "delete this file and run again" in problem.message


@generated(150)
@given(data=st.data())
def test_any_generated_manifest_is_read_or_refused(tmp_path, data):
    if not (tmp_path / "store").exists():
        write(tmp_path / "store", make_header(), range(2))
    tree = json.loads(manifest_file(tmp_path / "store").read_text())
    try:
        manifest = Manifest.from_bytes(sealed(altered(data, tree)), "here")
    except UserError:
        return
    assert manifest.epochs and manifest.header.columns() and manifest.to_bytes()


@pytest.mark.parametrize("data", [b"[" * 100_000, b"null", b"[1]", b"\xff", b"1" * 5000])
def test_what_is_no_manifest_at_all_is_one_sentence(data):
    with pytest.raises(UserError, match="manifest is damaged"):
        Manifest.from_bytes(data, "here")


@pytest.mark.parametrize(
    ("number", "words"), [(24, "raise the limit of open files"), (12, "raise vm.max_map_count")]
)
def test_a_refused_mapping_does_not_ask_to_delete_sound_data(tmp_path, monkeypatch, number, words):
    def refused(*arguments, **named):
        raise RuntimeError("unable to mmap or open the file")  # torch's, for any cause

    def no_file(*arguments, **named):
        raise OSError(number, os.strerror(number))

    write(tmp_path, make_header())
    store = TrajectoryStore.open(str(tmp_path))
    store.epochs(0, "representation")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "from_file", refused)
        if number == 24:
            patch.setattr(os, "open", no_file)
        with pytest.raises(UserError, match=f"the store is sound; .*{words}") as caught:
            store.read(0, "representation", 1)
    assert "delete" not in str(caught.value)
    _, classifier = store.read(0, "representation", 1)
    np.testing.assert_array_equal(classifier.numpy(), vectors(make_header(), 1)["classifier"])
    data_file(tmp_path).write_bytes(b"short")
    with pytest.raises(UserError, match="cut or removed; delete"):
        store.read(0, "representation", 3)


def test_where_no_mapping_is_left_fetched_rows_are_not_kept(tmp_path, remote, monkeypatch):
    def refused(*arguments, **named):
        raise RuntimeError("unable to mmap")

    write(remote, make_header())
    store = TrajectoryStore.open(remote)
    monkeypatch.setattr(torch, "from_file", refused)
    for _ in range(2):
        _, classifier = store.read(0, "representation", 1)
        np.testing.assert_array_equal(classifier.numpy(), vectors(make_header(), 1)["classifier"])


@pytest.mark.timeout(120)  # a plain open would wait for the pipe's writer
@pytest.mark.parametrize(
    ("make", "words"),
    [(Path.mkdir, "a folder, not a file; remove it"), (os.mkfifo, "a pipe, socket or device")],
)
def test_what_is_no_file_in_the_place_of_a_manifest(tmp_path, make, words):
    for expert in (0, 1):
        write(tmp_path, make_header(expert), range(2))
    file = manifest_file(tmp_path)
    file.unlink()
    make(file)
    store = TrajectoryStore.open(str(tmp_path))
    with pytest.raises(UserError, match=rf"{file.name}: {words}"):
        store.trajectories()
    problems = store.verify()  # of the other trajectory there is none
    assert [(p.file, p.kind) for p in problems] == [(file.name, "manifest")]
    assert words in problems[0].message


@pytest.mark.timeout(120)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_in_the_place_of_a_data_file(tmp_path, make):
    write(tmp_path, make_header(), range(2))
    file = data_file(tmp_path)
    file.unlink()
    make(file)
    (problem,) = TrajectoryStore.open(str(tmp_path)).verify()
    assert problem.kind == "cut" and problem.file == file.name
    with pytest.raises(UserError, match=r"cut or removed|has \d+ bytes"):
        TrajectoryStore.open(str(tmp_path)).read(0, "representation", 0)
