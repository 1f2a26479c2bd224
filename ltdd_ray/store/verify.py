"""Finding the problems of a store: every byte of every finished trajectory is read."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from ltdd_ray.common.errors import UserError
from ltdd_ray.store.agreement import disagreement
from ltdd_ray.store.garbage import debris
from ltdd_ray.store.location import Folder
from ltdd_ray.store.manifest import Manifest, finished, manifest_name, parse_name, read_manifest

Kind = Literal["manifest", "missing", "cut", "altered", "foreign"]
_SHARED = ("layout", "dataset_fingerprint", "config_fingerprint")


@dataclass(frozen=True)
class Problem:
    """One fault: the file's name, the kind of fault, and a sentence with the remedy."""

    file: str
    kind: Kind
    message: str


def verify_folder(folder: Folder) -> list[Problem]:
    """All problems of the store; empty for a sound one. Leftover temporaries are harmless."""
    problems, manifests = [], []
    for expert, stage in finished(folder):
        try:
            manifest = read_manifest(folder, expert, stage)
        except UserError as error:
            problems.append(Problem(manifest_name(expert, stage), "manifest", str(error)))
            continue
        if manifest is not None:
            manifests.append(manifest)
            problems += data_problems(folder, manifest)
    return problems + _other_runs(folder, manifests) + _strays(folder)


def data_problems(folder: Folder, manifest: Manifest) -> list[Problem]:
    """The problem of a trajectory's data file, or of a manifest that does not fit it, in a list."""
    problem = size_problem(folder, manifest)
    if problem:
        return [problem]
    with folder.open(manifest.file) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
    if digest != manifest.sha256:
        return [_altered(folder, manifest)]
    what = disagreement(folder, manifest)
    return [_manifest_problem(folder, manifest, what)] if what else []


def size_problem(folder: Folder, manifest: Manifest) -> Problem | None:
    """A fault that shows without reading the data: the file is missing or has another length."""
    size = folder.size(manifest.file)
    if size == manifest.nbytes:
        return None
    if size is None:
        return data_problem(folder, manifest, "missing", "the data file is missing")
    return data_problem(
        folder,
        manifest,
        "cut",
        f"the data file has {size} bytes, not the {manifest.nbytes} written",
    )


def _manifest_problem(folder: Folder, manifest: Manifest, what: str) -> Problem:
    name = manifest_name(manifest.header.expert, manifest.header.stage)
    message = (
        f"{folder.uri}/{name}: the manifest does not fit its data file ({what}); delete this file "
        "and run again to make the trajectory anew"
    )
    return Problem(name, "manifest", message)


def _altered(folder: Folder, manifest: Manifest) -> Problem:
    try:
        with folder.open(manifest.file) as file:
            identity = json.loads(pa.ipc.open_file(file).schema.metadata[b"identity"])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        identity = manifest.header.identity
    if identity != manifest.header.identity:
        return data_problem(
            folder,
            manifest,
            "foreign",
            f"the data file belongs to another run (identity {identity})",
        )
    return data_problem(
        folder, manifest, "altered", "the data file was altered after it was written"
    )


def data_problem(folder: Folder, manifest: Manifest, kind: Kind, what: str) -> Problem:
    """A fault of a trajectory's data file, with the remedy."""
    name = manifest_name(manifest.header.expert, manifest.header.stage)
    remedy = f"delete {name} and run again to make the trajectory anew"
    return Problem(manifest.file, kind, f"{folder.uri}/{manifest.file}: {what}; {remedy}")


def _other_runs(folder: Folder, manifests: list[Manifest]) -> list[Problem]:
    """Sound trajectories copied in from another run's store: the minority in each field."""
    problems = []
    for field in _SHARED:
        usual = Counter(getattr(m.header, field) for m in manifests).most_common(1)
        for manifest in manifests:
            if getattr(manifest.header, field) != usual[0][0]:
                name = manifest_name(manifest.header.expert, manifest.header.stage)
                message = (
                    f"{folder.uri}/{name}: belongs to another run, its {field} differs from the "
                    "rest of the store; move it out"
                )
                problems.append(Problem(name, "foreign", message))
    return problems


def _strays(folder: Folder) -> list[Problem]:
    unreferenced = [name for name in debris(folder) if name.endswith(".arrow")]
    unknown = [
        name for name in folder.names() if name.endswith(".arrow") and parse_name(name) is None
    ]
    problems = [(name, "remove it with `ltdd-ray store gc`") for name in unreferenced] + [
        (name, "move it out") for name in unknown
    ]
    return [
        Problem(name, "foreign", f"{folder.uri}/{name}: no manifest points to this file; {remedy}")
        for name, remedy in problems
    ]
