"""Writing one trajectory row by row. It joins the store once it is whole and on disk.

Pb backbone parameters, Pc classifier parameters.
"""

import mmap
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from ltdd_ray.common.errors import UserError
from ltdd_ray.store.agreement import arrow_schema
from ltdd_ray.store.drafts import Draft
from ltdd_ray.store.garbage import remove_debris
from ltdd_ray.store.location import open_folder, storage_errors
from ltdd_ray.store.manifest import (
    Column,
    Manifest,
    Row,
    TrajectoryHeader,
    manifest_name,
    prefix,
    read_manifest,
)
from ltdd_ray.store.terms import METRICS
from ltdd_ray.store.verify import data_problems


class TrajectoryWriter:
    """Context manager that writes one trajectory, and creates the store if there is none.

    The trajectory appears when the block ends without an exception, and not at all otherwise. Any
    number of writers may work in one store. Of two that write the same trajectory, the first to
    finish stays and the work of the other is dropped.

    Raises ``UserError`` on entry if the place cannot be written to, or if it holds this trajectory
    with another identity.
    """

    def __init__(self, uri: str, header: TrajectoryHeader):
        self._folder = open_folder(uri)
        self._header = header
        self._schema = arrow_schema(header)
        self._rows: list[tuple[int, dict[str, int], dict[str, float]]] = []

    def __enter__(self) -> "TrajectoryWriter":
        header = self._header
        with storage_errors(self._folder.uri, "write a trajectory"):
            self._folder.create()
            self._existing()
            remove_debris(self._folder, (header.expert, header.stage))
            self._draft: Draft = self._folder.draft(prefix(header.expert, header.stage))
            self._stream = pa.ipc.new_file(self._draft.file, self._schema)
        return self

    def append(
        self,
        epoch: int,
        classifier: Any,
        backbone: Any = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Add one epoch. Epochs must increase.

        Args:
            classifier: (Pc,) numpy array or CPU tensor; copied unless it is a read-only array.
            backbone: (Pb,), for the representation stage only.
            metrics: any of train_loss, train_accuracy and test_accuracy. Values that are not finite
                count as absent.

        Raises ``UserError`` if a value does not fit the header's dtype or the disk is full, and
        ``ValueError`` for a wrong shape, order or name.
        """
        if self._rows and epoch <= self._rows[-1][0]:
            raise ValueError(f"epoch {epoch} after epoch {self._rows[-1][0]}: epochs must increase")
        if unknown := set(metrics or {}) - set(METRICS):
            raise ValueError(f"unknown metrics {sorted(unknown)}; known are {METRICS}")
        if (backbone is None) != (self._header.stage == "classifier"):
            state = "missing" if backbone is None else "given"
            raise ValueError(f"a {self._header.stage} trajectory and a backbone that is {state}")
        given = {"backbone": backbone, "classifier": classifier}
        finite = {
            name: float(value) for name, value in (metrics or {}).items() if np.isfinite(value)
        }
        parameters = {
            name: self._vector(name, given[name], size)
            for name, size in self._header.columns().items()
        }
        lists = [
            pa.FixedSizeListArray.from_arrays(pa.array(v), type=self._schema.field(n).type)
            for n, v in parameters.items()
        ]
        values = [pa.array([finite.get(name)], pa.float64()) for name in METRICS]
        batch = pa.record_batch(
            [pa.array([epoch], pa.int32()), *lists, *values], schema=self._schema
        )
        with storage_errors(self._folder.uri, "write a trajectory"):
            self._stream.write_batch(batch)
        self._rows.append(
            (epoch, {name: zlib.crc32(v.data) for name, v in parameters.items()}, finite)
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with storage_errors(self._folder.uri, "write a trajectory"):
                    self._commit()
        finally:
            self._draft.close()
            # A data file whose manifest could not be written, or one that this one replaced.
            with suppress(OSError):
                remove_debris(self._folder, (self._header.expert, self._header.stage))

    def _vector(self, name: str, value: Any, size: int) -> np.ndarray:
        vector = np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)
        if vector.shape != (size,):
            raise ValueError(f"{name} has shape {vector.shape}, the layout says ({size},)")
        may_change = vector.flags.writeable  # before it is hashed
        with np.errstate(over="ignore"):
            stored = np.array(
                vector, self._header.dtype, order="C", copy=True if may_change else None
            )
        if stored.dtype != vector.dtype and np.isfinite(stored).sum() != np.isfinite(vector).sum():
            raise UserError(
                f"{name} holds {np.abs(vector).max():g}, beyond what {self._header.dtype} can "
                "hold; set experts.dtype to float32"
            )
        return stored

    def _existing(self) -> Manifest | None:
        """The manifest this trajectory already has; ``UserError`` if that has another identity."""
        existing = read_manifest(self._folder, self._header.expert, self._header.stage)
        if existing:
            refuse_other_identity(self._folder.uri, existing, self._header.identity)
        return existing

    def _commit(self) -> None:
        if not self._rows:
            raise ValueError("a trajectory without a single epoch")
        self._stream.close()
        self._draft.file.flush()
        header = self._header
        existing = self._existing()
        if existing and not data_problems(self._folder, existing):
            return
        name = f"{prefix(header.expert, header.stage)}.{uuid.uuid4().hex}.arrow"
        nbytes, offsets = self._draft.file.tell(), self._offsets()
        self._draft.publish(name)  # the thread hashes the rest meanwhile
        manifest = Manifest(
            header=header,
            file=name,
            nbytes=nbytes,
            sha256=self._draft.file.sha256,
            rows=tuple(
                Row(epoch, {name: Column(at[name], crc) for name, crc in sums.items()}, metrics)
                for (epoch, sums, metrics), at in zip(self._rows, offsets, strict=True)
            ),
        )
        draft = self._folder.draft(prefix(header.expert, header.stage))
        try:
            draft.file.write(manifest.to_bytes())
            draft.publish(manifest_name(header.expert, header.stage))
        finally:
            draft.close()

    def _offsets(self) -> list[dict[str, int]]:
        """Byte offset of each parameter column of each row, read back from the draft by Arrow."""
        with mmap.mmap(self._draft.file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = pa.py_buffer(mapped)
            reader = pa.ipc.open_file(view)
            batches = [reader.get_batch(k) for k in range(reader.num_record_batches)]
            offsets = [
                {
                    name: batch.column(name).values.buffers()[1].address - view.address
                    for name in self._header.columns()
                }
                for batch in batches
            ]
            del view, reader, batches  # they hold the mapping open
        return offsets


def refuse_other_identity(uri: str, manifest: Manifest, identity: str) -> None:
    """Raise ``UserError`` unless the finished trajectory has this ``identity``."""
    if manifest.header.identity != identity:
        raise UserError(
            f"{uri}: expert {manifest.header.expert} of the {manifest.header.stage} stage was "
            f"trained under another config (identity {manifest.header.identity}, now {identity}); "
            "choose another output folder or run name, or delete this store"
        )
