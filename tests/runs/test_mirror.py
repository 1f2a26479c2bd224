"""A folder and a folder of another file system, kept in step; here the other one is local, too."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from ltdd_ray.common.errors import UserError
from ltdd_ray.runs import mirror
from ltdd_ray.runs.mirror import RECORD, Mirror

Side = Callable[..., Mirror]
copy = mirror._copy


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "there"
    (folder / "runs" / "one").mkdir(parents=True)
    return folder


@pytest.fixture
def side(tmp_path: Path, there: Path) -> Side:
    """``side("a")``: the mirror of a machine named a; each has a folder of its own."""

    def make(name: str, parts: tuple[str, ...] = (), left_out: tuple[str, ...] = ()) -> Mirror:
        filesystem = fs.SubTreeFileSystem(str(there), fs.LocalFileSystem())
        local = tmp_path / name
        local.mkdir(exist_ok=True)
        return Mirror(filesystem, "runs/one", "s3://bucket/runs/one", local, parts, left_out)

    return make


def content(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != RECORD)
    return {file.relative_to(folder).as_posix(): file.read_text() for file in files}


def put(folder: Path, name: str, text: str, time: int | None = None) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    if time is not None:
        os.utime(file, (time, time))


def test_another_machine_gets_what_one_has_written(side: Side, there: Path) -> None:
    a, b = side("a"), side("b")
    files = {"run.json": "{}", "distilled/checkpoints/update-3/state": "weights", "empty": ""}
    for name, text in files.items():
        put(a.local, name, text)
    a.push()
    assert content(there / "runs" / "one") == files
    b.pull()
    assert content(b.local) == files


def test_only_what_has_changed_is_copied(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    a, copied = side("a"), []

    def counted(*places: Any) -> None:
        copied.append(places)
        copy(*places)

    monkeypatch.setattr("ltdd_ray.runs.mirror._copy", counted)
    put(a.local, "one", "1")
    put(a.local, "two", "2")
    a.push()
    assert len(copied) == 2
    a.push()
    a.pull()
    side("a").push()  # another process of the same machine, or a later one
    side("a").pull()
    assert len(copied) == 2
    put(a.local, "two", "longer")
    a.push()
    assert len(copied) == 3


def test_a_file_is_removed_there_only_by_who_saw_it_go(side: Side, there: Path) -> None:
    a = side("a")
    put(a.local, "distilled/checkpoints/update-3/state", "old")
    put(a.local, "kept", "1")
    a.push()
    (a.local / "distilled/checkpoints/update-3/state").unlink()
    a.push()
    assert content(there / "runs" / "one") == {"kept": "1"}
    (a.local / "kept").unlink()  # by somebody who cleans caches, before the next process
    later = side("a")
    later.push()
    assert content(there / "runs" / "one") == {"kept": "1"}
    later.pull()
    assert content(a.local) == {"kept": "1"}


def test_what_was_removed_there_is_removed_here_with_its_folder(side: Side, there: Path) -> None:
    a, b = side("a"), side("b")
    put(a.local, "distilled/checkpoints/update-3/state", "old")
    put(a.local, "kept", "1")
    a.push()
    b.pull()
    put(b.local, "own", "not uploaded yet")
    (there / "runs/one/distilled/checkpoints/update-3/state").unlink()
    b.pull()
    assert content(b.local) == {"kept": "1", "own": "not uploaded yet"}
    assert not (b.local / "distilled").exists()


def test_work_that_was_not_uploaded_stays_unless_another_driver_went_on(
    side: Side, there: Path
) -> None:
    a, b = side("a"), side("b")
    put(a.local, "history", "1")
    a.push()
    put(a.local, "history", "1 2")  # and then it was killed
    side("a").pull()
    assert content(a.local) == {"history": "1 2"}
    b.pull()
    put(b.local, "history", "1 2 3")
    b.push()
    side("a").pull()
    assert content(a.local) == {"history": "1 2 3"}


def test_files_go_in_the_order_in_which_they_were_written(
    side: Side, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever upload fails: what is there is a beginning of what was written."""
    a, written = side("a"), ["z/state", "y/list", "x/results", "a/report"]
    for number, name in enumerate(written):
        put(a.local, name, name, time=1000 + number)
    for failing in written[1:]:

        def fail(*places: Any, failing: str = failing) -> None:
            if str(places[1]).endswith(failing):
                raise OSError("AWS Error: HTTP status 507")
            copy(*places)

        with monkeypatch.context() as patch, pytest.raises(UserError, match="raise its quota"):
            patch.setattr("ltdd_ray.runs.mirror._copy", fail)
            a.push()
        assert set(content(there / "runs" / "one")) == set(written[: written.index(failing)])
    a.push()
    assert set(content(there / "runs" / "one")) == set(written)


def test_parts_and_what_is_left_out(side: Side, there: Path) -> None:
    a = side("a", left_out=("experts", "distilled/checkpoints"))
    names = ("run.json", "experts/1", "distilled/set", "distilled/checkpoints/1", "distilled2/set")
    for name in (*names, ".lock", "distilled/.set.tmp", RECORD):
        put(a.local, name, "{}")
    a.push()
    assert set(content(there / "runs" / "one")) == {"run.json", "distilled/set", "distilled2/set"}
    b = side("b", parts=("distilled",))
    b.pull()
    assert set(content(b.local)) == {"distilled/set"}


def test_an_object_cannot_lead_out_of_the_folder(side: Side, tmp_path: Path) -> None:
    a = side("a")

    class Odd:
        is_file, size, mtime_ns = True, 1, 10**9

        def __init__(self, path: str) -> None:
            self.path = path

    class Filesystem:
        def get_file_info(self, selector: object) -> list[Odd]:
            return [
                Odd(f"runs/one/{name}") for name in ("../x", "a/../../x", "/x", ".ssh/x", "a//x")
            ]

    a.filesystem = Filesystem()  # pyright: ignore[reportAttributeAccessIssue]
    a.pull()
    assert content(a.local) == {}


@pytest.mark.parametrize("record", ["", "{", "[1]", "{}"])
def test_a_damaged_record_costs_a_copy(side: Side, record: str) -> None:
    a = side("a")
    put(a.local, "x", "1")
    a.push()
    (a.local / RECORD).write_text(record)
    side("a").pull()
    a.push()
    assert content(a.local) == {"x": "1"}


def test_a_file_that_is_replaced_while_it_goes_up_goes_again(
    side: Side, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = side("a")
    put(a.local, "progress", "1")

    def replace(*places: Any) -> None:
        copy(*places)
        put(a.local, "progress", "2 of 3")

    with monkeypatch.context() as patch:
        patch.setattr("ltdd_ray.runs.mirror._copy", replace)
        a.push()
    a.push()
    assert content(there / "runs" / "one") == {"progress": "2 of 3"}


def test_a_place_without_a_run_is_empty(side: Side) -> None:
    a = side("a")
    a.pull()
    assert content(a.local) == {}


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, side: Side) -> None:
    a = side("a")
    (tmp_path / "file").touch()
    a.local = tmp_path / "file" / "below"
    with pytest.raises(UserError, match=r"below: cannot be created: .*; set XDG_CACHE_HOME to"):
        a.pull()
