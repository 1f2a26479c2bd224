"""What a reader takes along from the page of a run: the set, the accuracies of classes, the config.

The last two are in the page itself, so it stays one file. The set may be large; the page links to
it where it lies.
"""

import base64
import csv
import io
import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ltdd_ray.common.shell import command
from ltdd_ray.common.units import size
from ltdd_ray.data.groups import class_groups
from ltdd_ray.evaluate.plan import distilled_file
from ltdd_ray.report.finished import FinishedRun


class Download(NamedTuple):
    """A link of the page. ``name`` is that of the file, ``about`` what it holds."""

    href: str
    name: str
    about: str


def downloads(run: FinishedRun, page: Path) -> list[Download]:
    """The links of the page that will be written to ``page``."""
    table = Download(
        _inline("text/csv", class_table(run.results)),
        f"{_stem(run)}-classes.csv",
        "training images, group and accuracy 0..1 of every class, for each evaluated set",
    )
    found = [table]
    if run.config:
        about = "every setting of the run"
        found.append(Download(_inline("application/yaml", run.config), "config.yaml", about))
    file = distilled_file(run.folder)
    if file.is_file():
        here = os.path.relpath(file.resolve(), page.parent.resolve())
        about = f"images, soft labels and learning rate, {size(file.stat().st_size)}"
        found.insert(0, Download(quote(here), file.name, about))
    return found


def commands(run: FinishedRun) -> dict[str, str]:
    """{what for: command} for those files of the run that are there."""
    found = {}
    if distilled_file(run.folder).is_file():
        found["The set as one PNG per image, with a table of its soft labels"] = command(
            "export", run.folder, "--to", "imagefolder"
        )
    if (run.folder / "tensorboard").is_dir():
        words = ["tensorboard", "--logdir", str(run.folder / "tensorboard")]
        found["The curves in TensorBoard"] = shlex.join(words)
    return found


def class_table(results: dict[str, Any]) -> str:
    """CSV: a row per class in label order; what was not measured is empty."""
    names, counts = results["class_names"], results["class_counts"]
    group_of = {k: group for group, own in class_groups(counts).items() for k in own}
    columns = [(key, part) for key in results["sets"] for part in ("mean", "std")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = (key if part == "mean" else f"{key}_{part}" for key, part in columns)
    writer.writerow(["class", "training_images", "group", *titles])
    for k, name in enumerate(names):
        values = (results["sets"][key]["per_class"][part][k] for key, part in columns)
        shares = ("" if value is None else f"{value:.6g}" for value in values)
        writer.writerow([name, counts[k], group_of[k], *shares])
    return text.getvalue()


def _stem(run: FinishedRun) -> str:
    """The run's name as part of the name of a file; a name may have folders."""
    return str(run.results["name"]).replace("/", "-")


def _inline(kind: str, text: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
