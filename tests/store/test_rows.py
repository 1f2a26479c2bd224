"""Rows of objects: range requests, the local cache and its size, and damage before and in it."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from storekit import data_file, flip, make_header, vectors, write

from ltdd_ray.common.errors import UserError
from ltdd_ray.store import TrajectoryStore
from ltdd_ray.store.location import ObjectFolder

BACKBONE, CLASSIFIER = 6 * 4, 4 * 4  # bytes of the rows of storekit's layout


@pytest.fixture
def requests(monkeypatch) -> list[int]:
    """The length of every range that was fetched."""
    lengths, real = [], ObjectFolder.read_range

    def counted(folder, name, offset, length):
        lengths.append(length)
        return real(folder, name, offset, length)

    monkeypatch.setattr(ObjectFolder, "read_range", counted)
    return lengths


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def check(store: TrajectoryStore, epoch: int) -> torch.Tensor:
    classifier = store.column(0, "representation", epoch, "classifier")
    np.testing.assert_array_equal(classifier.numpy(), vectors(make_header(), epoch)["classifier"])
    return classifier


def test_a_row_is_fetched_by_its_range_and_once(remote, requests, scratch):
    write(remote, make_header())
    store = TrajectoryStore.open(remote)
    for _ in range(3):
        store.read(0, "representation", 2)
    assert requests == [BACKBONE, CLASSIFIER]
    assert list(scratch.iterdir()) == []  # whatever ends the process, the cache ends with it


def test_columns_are_read_separately(remote, requests):
    write(remote, make_header())
    write(remote, make_header(0, "classifier"))
    store = TrajectoryStore.open(remote)
    store.column(0, "representation", 1, "classifier")
    assert requests == [CLASSIFIER]
    store.segment(0, "classifier", 0, 1)
    assert sorted(requests) == [CLASSIFIER, CLASSIFIER, CLASSIFIER, BACKBONE]


def test_the_cache_keeps_the_rows_used_last_within_its_size(remote, requests):
    write(remote, make_header())
    store = TrajectoryStore.open(remote, cache_bytes=2 * CLASSIFIER + 1)
    for epoch in (0, 1, 0, 2, 0):  # 2 takes the place of 1
        check(store, epoch)
    assert len(requests) == 3
    check(store, 1)
    assert len(requests) == 4
    check(store, 2)
    assert len(requests) == 5


def test_rows_larger_than_the_cache_are_fetched_every_time(remote, requests):
    write(remote, make_header())
    store = TrajectoryStore.open(remote, cache_bytes=CLASSIFIER - 1)
    check(store, 0)
    check(store, 0)
    assert len(requests) == 2


def test_writing_into_a_tensor_does_not_change_the_cache(remote):
    write(remote, make_header())
    store = TrajectoryStore.open(remote)
    for _ in range(3):
        check(store, 1).zero_()


def test_a_full_disk_makes_reads_slower_not_wrong(remote, requests, monkeypatch):
    def full(**arguments):
        raise OSError(28, "No space left on device")

    write(remote, make_header())
    store = TrajectoryStore.open(remote)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    check(store, 0)
    check(store, 0)
    assert len(requests) == 2


def test_altered_bytes_are_not_kept(remote, tmp_path):
    write(remote, make_header())
    path = data_file(tmp_path / "bucket" / "store")
    position = path.read_bytes().index(vectors(make_header(), 1)["classifier"].tobytes())
    store = TrajectoryStore.open(remote)
    flip(path, position)
    with pytest.raises(UserError, match="epoch 1 was altered; delete"):
        check(store, 1)
    flip(path, position)
    check(store, 1)


def test_what_left_the_cache_is_checked_anew(remote, tmp_path):
    write(remote, make_header())
    path = data_file(tmp_path / "bucket" / "store")
    store = TrajectoryStore.open(remote, cache_bytes=CLASSIFIER)
    check(store, 1)
    check(store, 2)
    flip(path, path.read_bytes().index(vectors(make_header(), 1)["classifier"].tobytes()))
    with pytest.raises(UserError, match="epoch 1 was altered; delete"):
        check(store, 1)


@pytest.mark.parametrize("size", [None, 0, 400])
def test_an_object_cut_or_removed_under_an_open_reader(remote, tmp_path, size):
    write(remote, make_header())
    store = TrajectoryStore.open(remote)
    check(store, 0)
    path = data_file(tmp_path / "bucket" / "store")
    path.unlink() if size is None else path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match="cut or removed; delete"):
        check(store, 3)


@pytest.mark.parametrize("place", ["local", "remote"])
def test_an_open_reader_follows_a_file_that_a_rival_or_a_repair_replaced(remote, tmp_path, place):
    uri = {"remote": remote, "local": str(tmp_path / "bucket" / "store")}[place]
    write(uri, make_header())
    store = TrajectoryStore.open(uri)
    check(store, 0)
    first = data_file(tmp_path / "bucket" / "store")
    first.write_bytes(first.read_bytes()[:300])
    write(uri, make_header())
    first.unlink(missing_ok=True)
    assert data_file(tmp_path / "bucket" / "store") != first
    check(store, 3)
