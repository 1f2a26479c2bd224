"""``ltdd-ray store``: list a trajectory store, verify it, and remove debris.

The functions return the exit code: 0, or 1 for problems found.
"""

import json
from dataclasses import asdict

from rich import filesize
from rich.table import Table

from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.store.garbage import collect_garbage
from ltdd_ray.store.location import open_folder
from ltdd_ray.store.reader import TrajectoryStore
from ltdd_ray.store.terms import METRICS


def ls(uri: str, as_json: bool) -> int:
    """Print the finished trajectories."""
    manifests = TrajectoryStore.open(uri).trajectories()
    records = [
        {
            "expert": m.header.expert,
            "stage": m.header.stage,
            "identity": m.header.identity,
            "epochs": list(m.epochs),
            "dtype": m.header.dtype,
            "bytes": m.nbytes,
            "file": m.file,
            **{name: m.final_metrics.get(name) for name in METRICS},
        }
        for m in manifests
    ]
    if as_json:
        print(json.dumps(records))
        return 0
    columns = ("expert", "stage", "epochs", "dtype", "size", "loss", "train", "test")
    table = Table(
        *columns,
        title=f"{open_folder(uri).uri}: {len(records)} trajectories",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for m in manifests:
        kept = f"{len(m.epochs)} in {m.epochs[0]}..{m.epochs[-1]}"
        metrics = (
            f"{m.final_metrics[name]:.4f}" if name in m.final_metrics else "-" for name in METRICS
        )
        table.add_row(
            str(m.header.expert),
            m.header.stage,
            kept,
            m.header.dtype,
            filesize.decimal(m.nbytes),
            *metrics,
        )
    PlainConsole().print(table)
    return 0


def verify(uri: str, as_json: bool) -> int:
    """Print every problem; returns 1 if there is one."""
    problems = TrajectoryStore.open(uri).verify()
    if as_json:
        print(json.dumps([asdict(p) for p in problems]))
    for problem in () if as_json else problems:
        print(f"{problem.kind}: {problem.message}")
    if not problems and not as_json:
        print(f"{open_folder(uri).uri}: sound")
    return int(bool(problems))


def gc(uri: str, as_json: bool) -> int:
    """Remove debris and print the names of the removed files."""
    removed = collect_garbage(uri)
    print(
        json.dumps(removed)
        if as_json
        else "\n".join([*removed, f"{open_folder(uri).uri}: {len(removed)} files removed"])
    )
    return 0
