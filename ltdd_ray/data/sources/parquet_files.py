"""Finds the parquet files at a place and tells which part, training or test, each belongs to."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from ltdd_ray.common.address import is_address
from ltdd_ray.common.errors import UserError
from ltdd_ray.data.names import printable
from ltdd_ray.data.sources.checks import TEST_NAMES, not_there
from ltdd_ray.data.sources.shards import refuse_copies, refuse_missing_shards


@dataclass(frozen=True)
class ParquetFiles:
    """The parquet files at one place, grouped by part.

    A name that starts with "train", "test" or "val" decides the part; other files are under "".
    ``hidden`` are files in hidden folders and those whose own name starts with a dot; ``strange``
    are files that are not parquet.
    """

    name: str
    filesystem: FileSystem
    parts: dict[str, list[str]]
    hidden: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    @property
    def is_one_part(self) -> bool:
        """Whether no name decides a part; all files then belong to one part."""
        return set(self.parts) == {""}

    def files(self, *parts: str) -> list[str]:
        """The files of the first of ``parts`` that exists."""
        if self.is_one_part:
            return self.parts[""]
        return next((self.parts[part] for part in parts if part in self.parts), [])

    def passed_over(self, *read: list[str]) -> list[str]:
        """Sentences about the parquet files that are in none of the lists ``read``."""
        used = {file for files in read for file in files}
        others = [file for files in self.parts.values() for file in files if file not in used]
        notes = []
        for what, found in (
            ("hidden parquet file(s) are not read", self.hidden),
            ("parquet file(s) whose names tell another part or none are not read", others),
            ("file(s) other than parquet are not read", self.strange),
        ):
            if found:
                notes.append(f"{len(found):,} {what}, for example {printable(found[0])}")
        return notes


def locate(path: str, key: str) -> ParquetFiles:
    if "\0" in path:
        raise UserError(f"{key} {printable(path)} cannot be used as a path; correct it")
    try:
        if is_address(path):
            filesystem, root = FileSystem.from_uri(path)
        else:
            filesystem, root = LocalFileSystem(), Path(path).absolute().as_posix()
        info = filesystem.get_file_info(root)
        inside = (
            filesystem.get_file_info(FileSelector(root, recursive=True))
            if info.type == FileType.Directory
            else []
        )
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{key} {path} cannot be reached ({_first_line(error)}); check the address and the "
            "credentials"
        ) from None
    if info.type == FileType.NotFound:
        raise not_there(key, path)
    if info.type == FileType.Unknown:
        raise UserError(f"{key}: {path} is neither a file nor a folder; correct the path")
    if info.type == FileType.File:
        return ParquetFiles(path, filesystem, {"": [root]})
    parts: dict[str, list[str]] = {}
    hidden: list[str] = []
    strange: list[str] = []
    for entry in sorted(inside, key=lambda entry: entry.path):
        if entry.type == FileType.Directory:
            continue
        file = PurePosixPath(entry.path).relative_to(root)
        is_hidden = any(step.startswith(".") for step in file.parts)
        if not entry.path.lower().endswith(".parquet"):
            if not is_hidden:
                strange.append(entry.path)
        elif is_hidden:
            hidden.append(entry.path)
        elif entry.type != FileType.File:
            raise UserError(f"{entry.path} is not a regular file (a pipe or device); remove it")
        else:
            parts.setdefault(_part_of(file), []).append(entry.path)
    if not parts:
        raise UserError(f"{key}: {path} holds no .parquet files; correct the path")
    for files in parts.values():
        refuse_copies(files)
        refuse_missing_shards(files)
    return ParquetFiles(path, filesystem, parts, hidden, strange)


def _part_of(file: PurePosixPath) -> str:
    """The part that the names of the file and its folders tell, or ""."""
    names = ("train", *TEST_NAMES)
    told = {part for step in file.parts for part in names if step.lower().startswith(part)}
    if len(told) > 1:
        raise UserError(
            f"{printable(str(file))} tells two parts, {' and '.join(sorted(told))}; rename the "
            "file or the folder"
        )
    return next(iter(told), "")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
