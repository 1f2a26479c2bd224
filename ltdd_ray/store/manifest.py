"""The record of a trajectory, and the manifest that makes a written file part of the store.

A manifest is JSON whose first line holds the SHA-256 of every byte after it, so that a reader in
any language can check it before use.
"""

import hashlib
import json
import re
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, cast

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.layout import ParameterLayout
from ltdd_ray.store.location import Folder
from ltdd_ray.store.terms import STAGES, DType, Stage
from ltdd_ray.store.validity import find_fault

FORMAT = "ltdd_ray.trajectory"
FORMAT_VERSION = 1

_NAME = re.compile(
    r"expert-(\d{4,})\.(representation|classifier)\.(?:(json)|[0-9a-f]{32}\.(arrow|tmp))"
)


@dataclass(frozen=True)
class TrajectoryHeader:
    """Expert and stage of a trajectory, and all that tells it from another run's.

    ``identity`` is a hash of everything that decides its values, ``seed`` the run's seed, and
    ``class_counts`` are n_k in label order.
    """

    expert: int
    stage: Stage
    identity: str
    config_fingerprint: str
    dataset_fingerprint: str
    layout: ParameterLayout
    class_counts: tuple[int, ...]
    seed: int
    dtype: DType = "float32"

    def to_json(self) -> dict[str, Any]:
        tree = {f.name: getattr(self, f.name) for f in fields(self)}
        return tree | {
            "layout": self.layout.to_json(),
            "class_counts": [int(n) for n in self.class_counts],
        }

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "TrajectoryHeader":
        known = {f.name: tree[f.name] for f in fields(cls)}
        return cls(
            **known
            | {
                "layout": ParameterLayout.from_json(tree["layout"]),
                "class_counts": tuple(tree["class_counts"]),
            }
        )

    def columns(self) -> dict[str, int]:
        """Parameter columns of this stage, each with the number of elements of a row."""
        backbone = {"backbone": self.layout.backbone_size} if self.stage == "representation" else {}
        return backbone | {"classifier": self.layout.classifier_size}


class Column(NamedTuple):
    """One row of one column: byte offset in the data file, and CRC-32 of its bytes."""

    offset: int
    crc32: int


@dataclass(frozen=True)
class Row:
    """One kept epoch."""

    epoch: int
    columns: dict[str, Column]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Manifest:
    """A finished trajectory: header, data file (name, size, SHA-256), and rows in epoch order."""

    header: TrajectoryHeader
    file: str
    nbytes: int
    sha256: str
    rows: tuple[Row, ...]

    @property
    def epochs(self) -> tuple[int, ...]:
        return tuple(row.epoch for row in self.rows)

    @property
    def final_metrics(self) -> dict[str, float]:
        """Metrics of the last kept epoch."""
        return self.rows[-1].metrics

    def to_bytes(self) -> bytes:
        rows = [
            {
                "epoch": row.epoch,
                "columns": {name: c._asdict() for name, c in row.columns.items()},
                "metrics": row.metrics,
            }
            for row in self.rows
        ]
        tree = {"format": FORMAT, "format_version": FORMAT_VERSION, **self.header.to_json()}
        tree |= {"file": self.file, "bytes": self.nbytes, "sha256": self.sha256, "rows": rows}
        body = json.dumps(tree, allow_nan=False)[1:].encode()
        return _first_line(body) + body

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> "Manifest":
        """Parse and check; ``place`` names the file in errors.

        Raises ``UserError`` for another format version, for any byte that was changed, and for
        values that no writer makes.
        """

        def damaged(how: str) -> UserError:
            return UserError(
                f"{place}: the manifest is damaged{how}; delete this file and run again to make "
                "the trajectory anew"
            )

        try:
            tree = json.loads(data)
            version = tree["format_version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise damaged("") from None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{place}: trajectory format version {version}, but this program reads version "
                f"{FORMAT_VERSION} only; use the version of ltdd-ray that wrote it, or another "
                "output folder"
            )
        first, newline, body = data.partition(b"\n")
        if first + newline != _first_line(body):
            raise damaged("")
        if fault := find_fault(tree):
            raise damaged(f" ({fault})")
        rows = tuple(
            Row(
                row["epoch"],
                {name: Column(**c) for name, c in row["columns"].items()},
                row["metrics"],
            )
            for row in tree["rows"]
        )
        return cls(
            TrajectoryHeader.from_json(tree), tree["file"], tree["bytes"], tree["sha256"], rows
        )


def _first_line(body: bytes) -> bytes:
    return f'{{"checksum": "{hashlib.sha256(body).hexdigest()}",\n'.encode()


def prefix(expert: int, stage: Stage) -> str:
    """Start of the names of all files of one trajectory."""
    return f"expert-{expert:04d}.{stage}"


def manifest_name(expert: int, stage: Stage) -> str:
    return f"{prefix(expert, stage)}.json"


class FileName(NamedTuple):
    """The parts of a file name of this format; ``kind`` is json, arrow or tmp."""

    expert: int
    stage: Stage
    kind: str


def parse_name(name: str) -> FileName | None:
    """The parts of a name, or None if no writer of this format makes such a name."""
    match = _NAME.fullmatch(name)
    return FileName(int(match[1]), cast(Stage, match[2]), match[3] or match[4]) if match else None


def read_manifest(folder: Folder, expert: int, stage: Stage) -> Manifest | None:
    """The manifest of one trajectory, or None if that is not finished.

    Raises ``UserError`` as :meth:`Manifest.from_bytes` does, and for a copy of another manifest.
    """
    name = manifest_name(expert, stage)
    data = folder.read(name)
    if data is None:
        return None
    manifest = Manifest.from_bytes(data, f"{folder.uri}/{name}")
    claimed = prefix(manifest.header.expert, manifest.header.stage)
    if claimed != prefix(expert, stage) or parse_name(manifest.file) != (expert, stage, "arrow"):
        raise UserError(
            f"{folder.uri}/{name}: this is a copy of the manifest of {claimed}; delete this file "
            "and run again"
        )
    return manifest


def finished(folder: Folder) -> list[tuple[int, Stage]]:
    """(expert, stage) of every manifest, readable or not, representation before classifier."""
    parsed = [parse_name(name) for name in folder.names()]
    found: list[tuple[int, Stage]] = [(p.expert, p.stage) for p in parsed if p and p.kind == "json"]
    return sorted(found, key=lambda key: (key[0], STAGES.index(key[1])))
