"""Reading trajectories without loading them: a read maps one row of one column, and no other page.

Pb backbone parameters, Pc classifier parameters.

Every read gets its own private copy-on-write mapping. So writing into a returned tensor changes
neither the file nor the result of any other read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, TypeVar

import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.layout import ParameterLayout
from ltdd_ray.store.location import Folder, near_folder, open_folder, storage_errors
from ltdd_ray.store.manifest import Manifest, Row, Stage, finished, manifest_name, read_manifest
from ltdd_ray.store.rows import DamagedRowError, open_rows
from ltdd_ray.store.verify import Problem, data_problem, size_problem, verify_folder
from ltdd_ray.store.writer import refuse_other_identity

CACHE_BYTES = 4_000_000_000
_TRAJECTORIES_IN_MEMORY = 1024  # manifests, a few tens of kilobytes each


@dataclass(frozen=True)
class Expectation:
    """What the trajectories of a store must have been made for; None accepts any value."""

    layout: ParameterLayout | None = None
    dataset_fingerprint: str | None = None
    config_fingerprint: str | None = None


_MEANING = {
    "layout": "architecture",
    "dataset_fingerprint": "dataset",
    "config_fingerprint": "config",
}


class Planned(Protocol):
    """One trajectory that a run needs; ``identity`` is a hash of all that decides its values."""

    @property
    def expert(self) -> int: ...
    @property
    def stage(self) -> Stage: ...
    @property
    def identity(self) -> str: ...


_P = TypeVar("_P", bound=Planned)
ColumnName = Literal["backbone", "classifier"]


class Segment(NamedTuple):
    """Start and target on one expert's trajectory: backbones (Pb,), classifiers (Pc,)."""

    start_backbone: torch.Tensor
    start_classifier: torch.Tensor
    target_backbone: torch.Tensor
    target_classifier: torch.Tensor


class _Trajectory:
    """A manifest prepared for random access."""

    def __init__(self, manifest: Manifest):
        self.manifest = manifest
        self.rows = {row.epoch: row for row in manifest.rows}
        self.dtype: torch.dtype = getattr(torch, manifest.header.dtype)
        self.sizes = manifest.header.columns()


class TrajectoryStore:
    """The finished trajectories at a path or ``pyarrow.fs`` URI. Writers may add more meanwhile.

    A missing, cut or altered file, or another version, raises a ``UserError`` with the remedy.
    """

    def __init__(self, folder: Folder, expect: Expectation, cache_bytes: int):
        self._folder = folder
        self._rows = open_rows(folder, cache_bytes)
        self._expect = expect
        self._trajectory = lru_cache(_TRAJECTORIES_IN_MEMORY)(self._load)

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        expect: Expectation | None = None,
        create: bool = False,
        cache_bytes: int = CACHE_BYTES,
    ) -> "TrajectoryStore":
        """Open a store; with ``create``, make an empty one if there is none.

        Rows read from an object store are kept on local disk, up to ``cache_bytes`` of them.

        Raises ``UserError`` if there is no store, if it cannot be created or, with ``expect``, if
        it was made for another architecture, dataset or config.
        """
        folder = open_folder(uri)
        store = cls(folder, expect or Expectation(), cache_bytes)
        with storage_errors(folder.uri, "open the trajectory store"):
            if create:
                folder.create()
            elif not folder.exists():
                raise UserError(
                    f"{folder.uri}: no trajectory store here; check the path, or train the experts "
                    f"first{near_folder(folder.uri)}"
                )
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

    def read(
        self, expert: int, stage: Stage, epoch: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Backbone (Pb,) and classifier (Pc,) of one epoch, in the dtype they are stored in.

        The classifier stage stores no backbone: None.
        """
        backbone = (
            self.column(expert, stage, epoch, "backbone") if stage == "representation" else None
        )
        return backbone, self.column(expert, stage, epoch, "classifier")

    def column(self, expert: int, stage: Stage, epoch: int, name: ColumnName) -> torch.Tensor:
        """Backbone (Pb,) or classifier (Pc,) of one epoch, in the dtype it is stored in."""
        trajectory, row = self._row(expert, stage, epoch)
        manifest, column = trajectory.manifest, row.columns[name]
        try:
            with storage_errors(self._folder.uri, "read a trajectory"):
                values = self._rows.fetch(
                    manifest.file, column, trajectory.sizes[name] * trajectory.dtype.itemsize
                )
        except DamagedRowError as error:
            if self._replaced(manifest):
                return self.column(expert, stage, epoch, name)
            what = {
                "cut": "the data file was cut or removed",
                "altered": f"epoch {epoch} was altered",
            }[error.kind]
            raise UserError(
                data_problem(self._folder, manifest, error.kind, what).message
            ) from None
        return torch.from_numpy(values).view(trajectory.dtype)

    def segment(self, expert: int, stage: Stage, start: int, end: int) -> Segment:
        """The rows of epochs ``start`` and ``end``.

        The backbone does not move in the classifier stage: start and target share that of the last
        epoch of the same expert's representation stage.
        """
        start_backbone, start_classifier = self.read(expert, stage, start)
        target_backbone, target_classifier = self.read(expert, stage, end)
        if start_backbone is None or target_backbone is None:
            start_backbone = target_backbone = self._frozen_backbone(expert)
        return Segment(start_backbone, start_classifier, target_backbone, target_classifier)

    def theta(self, expert: int, stage: Stage, epoch: int | None = None) -> torch.Tensor:
        """All parameters (Pb + Pc,) at ``epoch``, the last one by default, in the stored dtype."""
        backbone, classifier = self.read(
            expert, stage, self.epochs(expert, stage)[-1] if epoch is None else epoch
        )
        return torch.cat(
            [self._frozen_backbone(expert) if backbone is None else backbone, classifier]
        )

    def _frozen_backbone(self, expert: int) -> torch.Tensor:
        """The backbone (Pb,) on which the classifier stage of ``expert`` was trained."""
        last = self.epochs(expert, "representation")[-1]
        return self.column(expert, "representation", last, "backbone")

    def missing(self, plan: Iterable[_P]) -> list[_P]:
        """The planned trajectories that are not finished, in the plan's order.

        A trajectory whose data file is missing or cut is not finished. Raises ``UserError`` if a
        finished one has another identity, or if its manifest cannot be read.
        """
        missing = []
        with storage_errors(self._folder.uri, "list the trajectory store"):
            present = set(finished(self._folder))
            for task in plan:
                manifest = (
                    self._manifest(task.expert, task.stage)
                    if (task.expert, task.stage) in present
                    else None
                )
                if manifest:
                    refuse_other_identity(self._folder.uri, manifest, task.identity)
                if manifest is None or size_problem(self._folder, manifest):
                    missing.append(task)
        return missing

    def verify(self) -> list[Problem]:
        """Read every byte and return all problems; empty for a sound store."""
        with storage_errors(self._folder.uri, "verify the trajectory store"):
            return verify_folder(self._folder)

    def _manifest(self, expert: int, stage: Stage) -> Manifest | None:
        manifest = read_manifest(self._folder, expert, stage)
        if manifest is None:
            return None
        for field in fields(self._expect):
            wanted = getattr(self._expect, field.name)
            found = getattr(manifest.header, field.name)
            if wanted is not None and found != wanted:
                raise UserError(
                    f"{self._folder.uri}: the trajectories here were made for another "
                    f"{_MEANING[field.name]} ({manifest_name(expert, stage)}: "
                    f"{_differing(found, wanted)}); choose another output folder or run name, or "
                    "delete this store"
                )
        return manifest

    def _load(self, expert: int, stage: Stage) -> _Trajectory:
        with storage_errors(self._folder.uri, "read a trajectory"):
            manifest = self._manifest(expert, stage)
            if manifest is None:
                raise UserError(
                    f"{self._folder.uri}: no {stage} trajectory of expert {expert}; train the "
                    "experts first"
                )
            if problem := size_problem(self._folder, manifest):
                raise UserError(problem.message)
        return _Trajectory(manifest)

    def _row(self, expert: int, stage: Stage, epoch: int) -> tuple[_Trajectory, Row]:
        trajectory = self._trajectory(expert, stage)
        row = trajectory.rows.get(epoch)
        if row is None:
            kept = trajectory.manifest.epochs
            raise UserError(
                f"{self._folder.uri}: the {stage} trajectory of expert {expert} has no epoch "
                f"{epoch} (it keeps {len(kept)} epochs from {kept[0]} to {kept[-1]}); lower the "
                "start epoch or expert_epochs, or train and keep more epochs"
            )
        return trajectory, row

    def _replaced(self, manifest: Manifest) -> bool:
        """Whether a rival or a repair has replaced the trajectory's data file by now."""
        with storage_errors(self._folder.uri, "read a trajectory"):
            now = self._manifest(manifest.header.expert, manifest.header.stage)
        replaced = now is not None and now.file != manifest.file
        if replaced:
            self._trajectory.cache_clear()
        return replaced


def _differing(found: object, wanted: object) -> str:
    if isinstance(found, ParameterLayout) and isinstance(wanted, ParameterLayout):
        return (
            f"{found.size} parameters in {len(found.parameters)} tensors, "
            f"now {wanted.size} in {len(wanted.parameters)}"
        )
    return f"{found}, now {wanted}"
