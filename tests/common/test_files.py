import json
from pathlib import Path

import pytest

from ltdd_ray.common.files import new_folder, write_atomic, write_json


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_atomic(file, "old")
    write_json(file, {"new": 1})
    assert json.loads(file.read_text()) == {"new": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_atomic(file, b"old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "\ud800")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_debris_of_a_killed_writer_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.tmp").write_bytes(b"cut")
    write_atomic(tmp_path / "a.txt", "whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / ".a.tmp").mkdir()
    (tmp_path / ".a.tmp" / "debris").touch()
    with new_folder(tmp_path / "a") as draft:
        (draft / "b").mkdir()
        (draft / "b" / "c.txt").write_text("c")
        assert not (tmp_path / "a").exists()
    assert [entry.name for entry in (tmp_path / "a").rglob("*")] == ["b", "c.txt"]
    with pytest.raises(KeyError), new_folder(tmp_path / "d") as draft:
        (draft / "half").touch()
        raise KeyError
    with pytest.raises(OSError), new_folder(tmp_path / "a") as draft:
        (draft / "other").touch()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"] and not (
        tmp_path / "a" / "other"
    ).exists()
