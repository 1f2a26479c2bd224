"""A folder of this machine that is kept in step with a folder of an object store.

Objects are written whole, and nothing is renamed there. ``.mirror.json`` in the folder has, for
each file that was in step, its size and time here and those of its object. A file that differs from
its line has changed here, an object that differs has changed there. So no clocks are compared.
Where both have changed, the object is taken, as its writer came later: a run has one driver at a
time (:mod:`ltdd_ray.runs.claim`).
"""

import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from pyarrow import fs

from ltdd_ray.common.address import make_private, shown
from ltdd_ray.common.files import open_regular, read_text, write_json
from ltdd_ray.store.location import open_address, storage_errors

RECORD = ".mirror.json"
EXPERTS, CHECKPOINTS = "experts", "distilled/checkpoints"
Stamp = list[int]  # of a file: bytes, and its time in ns; of an object: bytes, and whole seconds
# Of the thread of a run and its stages one works at a time. A pull that saw an upload before its
# line is in the record would take it for another machine's.
_ONE_AT_A_TIME = Lock()


class Mirror:
    """The folder ``local`` and the folder ``path`` of ``filesystem``.

    Only files below ``parts`` count, or all if it is empty, and none below ``left_out``. Names that
    begin with a dot are those of locks and unfinished files, and never count. ``place`` names the
    address in errors, all of which are ``UserError``.
    """

    def __init__(
        self,
        filesystem: fs.FileSystem,
        path: str,
        place: str,
        local: Path,
        parts: Sequence[str] = (),
        left_out: Sequence[str] = (),
    ) -> None:
        self.filesystem, self.path, self.place, self.local = filesystem, path, place, local
        self._parts, self._left_out = parts, left_out
        # Files that were here. One that goes missing between runs was lost, as caches are cleaned.
        self._seen: set[str] = set()

    @classmethod
    def at(
        cls, address: str, local: Path, parts: Sequence[str] = (), left_out: Sequence[str] = ()
    ) -> "Mirror":
        filesystem, path = open_address(address, "runs")
        return cls(filesystem, path.rstrip("/"), shown(address), local, parts, left_out)

    def pull(self) -> None:
        """Bring down what is new or has changed there, and remove here what was removed there."""
        make_private(self.local)
        with _ONE_AT_A_TIME, storage_errors(self.place, "read the run"):
            known, objects = self._read_record(), self._objects()
            changes: dict[str, tuple[Stamp, Stamp] | None] = {}
            try:
                for name, stamp in objects.items():
                    in_step = name in known and known[name][1] == stamp
                    if not in_step or not (self.local / name).exists():
                        changes[name] = (self._download(name), stamp)
                for name in known:
                    if self._counts(name) and name not in objects:
                        self._remove(self.local / name)
                        changes[name] = None
            finally:
                self._record(changes)
            self._seen = set(self._files())

    def push(self) -> None:
        """Upload what is new or has changed here; remove there what this object saw disappear here.

        Files go in the order in which they were written. So what is there after a kill at any
        moment is what a kill here could have left.
        """
        with _ONE_AT_A_TIME, storage_errors(self.place, "write the run"):
            known, files = self._read_record(), self._files()
            changed = [name for name, stamp in files.items() if known.get(name, [0])[0] != stamp]
            changes: dict[str, tuple[Stamp, Stamp] | None] = {}
            try:
                for name in sorted(changed, key=lambda name: files[name][1]):
                    if stamp := self._upload(name):
                        changes[name] = (files[name], stamp)
                for name in self._seen - files.keys():
                    with suppress(FileNotFoundError):
                        self.filesystem.delete_file(f"{self.path}/{name}")
                    changes[name] = None
                self._seen = set(files)
            finally:
                self._record(changes)

    def _counts(self, name: str) -> bool:
        # An object may have any name, such as one that leads out of the folder.
        if any(not step or step.startswith(".") for step in name.split("/")):
            return False
        if any(_lies_in(name, part) for part in self._left_out):
            return False
        return not self._parts or any(_lies_in(name, part) for part in self._parts)

    def _files(self) -> dict[str, Stamp]:
        found = {}
        for file in self.local.rglob("*"):
            name = file.relative_to(self.local).as_posix()
            with suppress(FileNotFoundError):  # it may be replaced or removed at any moment
                if self._counts(name) and file.is_file():
                    found[name] = _stamp(file)
        return found

    def _objects(self) -> dict[str, Stamp]:
        selector = fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        found = {}
        for info in self.filesystem.get_file_info(selector):
            name = info.path.removeprefix(f"{self.path}/" if self.path else "")
            if info.is_file and self._counts(name):
                found[name] = _object_stamp(info)
        return found

    def _download(self, name: str) -> Stamp:
        file = self.local / name
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name[:40]}.{uuid.uuid4().hex}.tmp")
        try:
            _copy(self.filesystem, f"{self.path}/{name}", fs.LocalFileSystem(), str(temporary))
            with open_regular(temporary) as written:
                os.fsync(written.fileno())
            stamp = _stamp(temporary)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        return stamp

    def _remove(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        for folder in file.parents:  # an empty folder could pass for a checkpoint
            if folder == self.local or any(folder.iterdir()):
                break
            folder.rmdir()

    def _upload(self, name: str) -> Stamp | None:
        """The object's stamp; None where the file is gone."""
        file, target = self.local / name, f"{self.path}/{name}"
        try:
            _copy(fs.LocalFileSystem(), str(file), self.filesystem, target)
        except FileNotFoundError:
            if not file.exists():
                return None
            # This file system has folders that must exist.
            self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
            _copy(fs.LocalFileSystem(), str(file), self.filesystem, target)
        return _object_stamp(self.filesystem.get_file_info(target))

    def _read_record(self) -> dict[str, list[Stamp]]:
        try:
            record = json.loads(read_text(self.local / RECORD))
        except (FileNotFoundError, ValueError):  # new, or cut: all objects are brought down again
            return {}
        return record if isinstance(record, dict) else {}

    def _record(self, changes: dict[str, tuple[Stamp, Stamp] | None]) -> None:
        """Change the record. Another process may have changed other lines since it was read."""
        if changes and self.local.exists():  # an unused folder is removed with its record
            record = {**self._read_record(), **changes}
            kept = {name: stamps for name, stamps in record.items() if stamps is not None}
            write_json(self.local / RECORD, kept)


def _lies_in(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}/")


def _stamp(file: Path) -> Stamp:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _object_stamp(info: fs.FileInfo) -> Stamp:
    # S3 tells fractions of seconds in lists only.
    return [info.size or 0, (info.mtime_ns or 0) // 1_000_000_000]


def _copy(source: fs.FileSystem, path: str, target: fs.FileSystem, there: str) -> None:
    # Unlike a stream that is closed by an error, it leaves no part of a file as an object.
    fs.copy_files(path, there, source_filesystem=source, destination_filesystem=target)
