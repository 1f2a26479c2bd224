import json
import multiprocessing
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import (
    LOCK,
    append_text,
    create_file,
    locked,
    new_folder,
    read_bytes,
    read_text,
    resolved,
    write_atomic,
    write_json,
)


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


def test_writers_share_no_temporary_and_follow_no_link(tmp_path: Path) -> None:
    target, file = tmp_path / "target", tmp_path / "a.txt"
    target.write_text("mine")
    (tmp_path / ".a.txt.tmp").symlink_to(target)
    file.symlink_to(target)
    write_atomic(file, "whole")
    assert target.read_text() == "mine" and file.read_text() == "whole" and not file.is_symlink()
    (tmp_path / "taken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "taken")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.timeout(60)  # a plain open would wait
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize(
    "use",
    [read_bytes, read_text, append_text, lambda path: write_atomic(path, "x")],
    ids=["bytes", "text", "append", "write"],
)
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str, use: Any, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    if kind == "device" and use not in (read_bytes, read_text):
        kind = "pipe"  # a fault must not reach a device of this machine
    path = Path("/dev/null" if kind == "device" else "x")
    if kind == "pipe":
        os.mkfifo(path)
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            listener.bind(str(path))
        before = path.lstat()
        with pytest.raises(UserError, match=rf"{path}: a pipe, socket or device, not a file"):
            use(path)
    assert path.lstat().st_ino == before.st_ino and sorted(tmp_path.iterdir()) == [
        *([tmp_path / "x"] if kind != "device" else [])
    ]


def test_files_are_read_and_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        with append_text(tmp_path / "x") as file:
            file.write("a\r\n")
    assert read_bytes(tmp_path / "x") == b"a\r\na\r\n"
    assert read_text(tmp_path / "x") == "a\na\n"
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert read_text(tmp_path / "link") == "a\na\n"
    for use in (read_bytes, append_text):
        with pytest.raises(IsADirectoryError):
            use(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")


def test_a_circle_of_links_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match=r"a: a link that leads back to itself; remove the link"):
        resolved(tmp_path / "a")
    assert resolved(tmp_path / "none") == tmp_path.resolve() / "none"


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("x" * 255), "whole")


def _write(file: Path, content: str, failures: Any) -> None:
    for _ in range(150):
        try:
            write_json(file, content)
        except Exception as error:
            failures.put(repr(error))


def test_two_writers_at_once_leave_whole_files(tmp_path: Path) -> None:
    file, context = tmp_path / "a.json", multiprocessing.get_context("spawn")
    write_json(file, "")
    failures = context.Queue()
    writers = [
        context.Process(target=_write, args=(file, str(i) * 50_000 * (i + 1), failures))
        for i in range(2)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert len(set(json.loads(file.read_text()))) <= 1
    assert failures.empty() and [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def _hold(folder: Path, held: Any, end: Any) -> None:
    with locked(folder, "the run"):
        held.set()
        end.wait(60)


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, end = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, held, end))
    holder.start()
    assert held.wait(60)
    wanted = rf"the run is in use by process {holder.pid} on {re.escape(socket.gethostname())} \("
    with pytest.raises(UserError, match=wanted), locked(tmp_path, "the run"):
        pass
    holder.kill()
    holder.join()
    for _ in range(2):
        with locked(tmp_path, "the run"):
            pass
    assert (tmp_path / LOCK).read_text() == ""


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
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
