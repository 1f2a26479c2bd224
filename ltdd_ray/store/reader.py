"""Reading trajectories without loading them: a read maps one row of one column and touches no other page.

Pb backbone parameters, Pc classifier parameters.

Every read gets a private copy-on-write mapping of its own. Writing into a returned tensor is therefore harmless: it changes
neither the file nor what any other read sees.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from ltdd_ray.errors import UserError
from ltdd_ray.layout import ParameterLayout
from ltdd_ray.store.location import Folder, LocalFolder, open_folder, storage_errors
from ltdd_ray.store.manifest import Column, Manifest, Row, Stage, finished, manifest_name, read_manifest
from ltdd_ray.store.verify import Problem, data_problem, size_problem, verify_folder
from ltdd_ray.store.writer import refuse_other_identity

_TRAJECTORIES_IN_MEMORY = 1024  # manifests; a few tens of kilobytes each


@dataclass(frozen=True)
class Expectation:
    """What a store must have been made for; None accepts anything."""

    layout: ParameterLayout | None = None
    dataset_fingerprint: str | None = None
    config_fingerprint: str | None = None


_MEANING = {"layout": "architecture", "dataset_fingerprint": "dataset", "config_fingerprint": "config"}


class Planned(Protocol):
    """One trajectory that a run wants; ``identity`` is a hash of what decides its outcome."""

    @property
    def expert(self) -> int: ...
    @property
    def stage(self) -> Stage: ...
    @property
    def identity(self) -> str: ...


_P = TypeVar("_P", bound=Planned)


class Segment(NamedTuple):
    """A start and a target on one expert's trajectory: backbones (Pb,), classifiers (Pc,)."""

    start_backbone: torch.Tensor
    start_classifier: torch.Tensor
    target_backbone: torch.Tensor
    target_classifier: torch.Tensor


class _Trajectory:
    """A manifest prepared for random access, and which of its columns this process has already checked."""

    def __init__(self, manifest: Manifest):
        self.manifest = manifest
        self.rows = {row.epoch: row for row in manifest.rows}
        self.dtype = np.dtype(manifest.header.dtype)
        self.sizes = manifest.header.columns()
        self.checked: set[int] = set()


class TrajectoryStore:
    """The finished trajectories at a local path or ``pyarrow.fs`` URI. Safe to read while writers add more.

    Every error a reader can meet (a missing, cut or altered file, another version) is a ``UserError`` with the remedy.
    """

    def __init__(self, folder: Folder, expect: Expectation):
        self._folder = folder
        self._expect = expect
        self._trajectory = lru_cache(_TRAJECTORIES_IN_MEMORY)(self._load)

    @classmethod
    def open(cls, uri: str, *, expect: Expectation | None = None, create: bool = False) -> "TrajectoryStore":
        """Open a store; with ``create``, make an empty one where there is none.

        Raises ``UserError`` where there is no store, where it cannot be created or, with ``expect``, where it was made for
        another architecture, dataset or config.
        """
        store = cls(open_folder(uri), expect or Expectation())
        with storage_errors(uri, "open the trajectory store"):
            if create:
                store._folder.create()
            elif not store._folder.exists():
                raise UserError(f"{uri}: no trajectory store here; check the path, or train the experts first")
        if expect:
            store.trajectories()
        return store

    def trajectories(self) -> list[Manifest]:
        """Manifests of all finished trajectories, by expert, representation before classifier."""
        with storage_errors(self._folder.uri, "list the trajectory store"):
            manifests = [self._manifest(expert, stage) for expert, stage in finished(self._folder)]
        return [manifest for manifest in manifests if manifest]

    def epochs(self, expert: int, stage: Stage) -> tuple[int, ...]:
        """The kept epochs, increasing."""
        return self._trajectory(expert, stage).manifest.epochs

    def read(self, expert: int, stage: Stage, epoch: int) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Backbone (Pb,), None for the classifier stage, and classifier (Pc,) of one epoch, in the dtype they are stored in."""
        trajectory, row = self._row(expert, stage, epoch)
        backbone = self._column(trajectory, row, "backbone") if stage == "representation" else None
        return backbone, self._column(trajectory, row, "classifier")

    def segment(self, expert: int, stage: Stage, start: int, end: int) -> Segment:
        """The rows of epochs ``start`` and ``end``.

        The backbone of the classifier stage, where it does not move, is the last epoch of the same expert's representation stage;
        start and target then share one tensor.
        """
        start_backbone, start_classifier = self.read(expert, stage, start)
        target_backbone, target_classifier = self.read(expert, stage, end)
        if start_backbone is None or target_backbone is None:
            trajectory, row = self._row(expert, "representation", self.epochs(expert, "representation")[-1])
            start_backbone = target_backbone = self._column(trajectory, row, "backbone")
        return Segment(start_backbone, start_classifier, target_backbone, target_classifier)

    def missing(self, plan: Iterable[_P]) -> list[_P]:
        """The planned trajectories that are not finished, in the plan's order.

        One whose data file is missing or cut counts as not finished. Raises ``UserError`` where a finished one has another
        identity, or its manifest cannot be read.
        """
        missing = []
        with storage_errors(self._folder.uri, "list the trajectory store"):
            present = set(finished(self._folder))
            for task in plan:
                manifest = self._manifest(task.expert, task.stage) if (task.expert, task.stage) in present else None
                if manifest:
                    refuse_other_identity(self._folder.uri, manifest, task.identity)
                if manifest is None or size_problem(self._folder, manifest):
                    missing.append(task)
        return missing

    def verify(self) -> list[Problem]:
        """Read every byte and return all that is wrong; empty for a sound store."""
        with storage_errors(self._folder.uri, "verify the trajectory store"):
            return verify_folder(self._folder)

    def _manifest(self, expert: int, stage: Stage) -> Manifest | None:
        manifest = read_manifest(self._folder, expert, stage)
        if manifest is None:
            return None
        for field in fields(self._expect):
            wanted = getattr(self._expect, field.name)
            if wanted is not None and getattr(manifest.header, field.name) != wanted:
                raise UserError(
                    f"{self._folder.uri}: the trajectories here were made for another {_MEANING[field.name]} "
                    f"({manifest_name(expert, stage)}: {_differing(getattr(manifest.header, field.name), wanted)}); "
                    "choose another output folder or run name, or delete this store"
                )
        return manifest

    def _load(self, expert: int, stage: Stage) -> _Trajectory:
        with storage_errors(self._folder.uri, "read a trajectory"):
            manifest = self._manifest(expert, stage)
            if manifest is None:
                raise UserError(f"{self._folder.uri}: no {stage} trajectory of expert {expert}; train the experts first")
            if problem := size_problem(self._folder, manifest):
                raise UserError(problem.message)
        return _Trajectory(manifest)

    def _row(self, expert: int, stage: Stage, epoch: int) -> tuple[_Trajectory, Row]:
        trajectory = self._trajectory(expert, stage)
        row = trajectory.rows.get(epoch)
        if row is None:
            kept = trajectory.manifest.epochs
            raise UserError(
                f"{self._folder.uri}: the {stage} trajectory of expert {expert} has no epoch {epoch} (it keeps {len(kept)} epochs "
                f"from {kept[0]} to {kept[-1]}); lower the start epoch or expert_epochs, or train and keep more epochs"
            )
        return trajectory, row

    def _column(self, trajectory: _Trajectory, row: Row, name: str) -> torch.Tensor:
        column, file = row.columns[name], trajectory.manifest.file
        with storage_errors(self._folder.uri, "read a trajectory"):
            values = _fetch(self._folder, file, column, trajectory.dtype, trajectory.sizes[name])
        if values is None:
            raise UserError(data_problem(self._folder, trajectory.manifest, "cut", "the data file was cut or removed").message)
        if column.offset not in trajectory.checked:
            if zlib.crc32(values.data) != column.crc32:
                raise UserError(
                    data_problem(self._folder, trajectory.manifest, "altered", f"epoch {row.epoch} was altered").message
                )
            trajectory.checked.add(column.offset)
        return torch.from_numpy(values)


def _fetch(folder: Folder, file: str, column: Column, dtype: np.dtype, size: int) -> np.ndarray | None:
    """A private, writable view of ``size`` elements; None where the file ends before or is gone."""
    length = size * dtype.itemsize
    if isinstance(folder, LocalFolder):
        # torch's own mapping rather than mmap: that one keeps a file descriptor open for as long as a tensor lives. Passing
        # through numpy gives the tensor a storage of the row alone, so that pickling it does not carry the file along.
        try:
            mapped = torch.from_file(str(folder.path / file), shared=False, size=column.offset + length, dtype=torch.uint8)
        except RuntimeError:
            return None
        return mapped.numpy()[column.offset :].view(dtype)
    buffer = folder.read_range(file, column.offset, length)
    return np.frombuffer(buffer, dtype) if len(buffer) == length else None


def _differing(found: object, wanted: object) -> str:
    if isinstance(found, ParameterLayout) and isinstance(wanted, ParameterLayout):
        return f"{found.size} parameters in {len(found.parameters)} tensors, now {wanted.size} in {len(wanted.parameters)}"
    return f"{found}, now {wanted}"
