"""The report of one run: a self-contained HTML page made from the files in its folder.

Accuracies are fractions 0..1, and means over classes unless they are said to be over images.
Classes without test images are left out. A series is a set that networks were trained on, by its
name in ``evaluate.sets``: the distilled set, random images, and so on. The first one is the leading
series, whose accuracy is the run's result.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltdd_ray.common.files import open_regular, read_bytes
from ltdd_ray.common.shell import command
from ltdd_ray.common.units import size
from ltdd_ray.data.groups import class_groups, head_to_tail
from ltdd_ray.evaluate.feature_map import FILE
from ltdd_ray.evaluate.results import size_cells, some, start_warning
from ltdd_ray.evaluate.robustness import SCORES
from ltdd_ray.methods.published import published_source
from ltdd_ray.report.charts import axis_limit, upper_end
from ltdd_ray.report.classes import confusions, recall_by_images
from ltdd_ray.report.coverage import coverage
from ltdd_ray.report.files import commands, downloads
from ltdd_ray.report.finished import FinishedRun, fitting_files
from ltdd_ray.report.history import curves
from ltdd_ray.report.images import galleries
from ltdd_ray.report.networks import architectures, classifier_norms
from ltdd_ray.report.template import write_page

# Colours in the style sheet for all but the leading series and random selection.
OTHER_STYLES = 6
_SOURCES = (
    *("results.json", "config.yaml", "distilled/distilled.safetensors"),
    *("distilled/initial.safetensors", "distilled/history.jsonl", str(FILE)),
)
_HEAD = 2000  # bytes, at the start of a page


def write_report(run_folder: Path, path: Path | None = None) -> Path:
    """Write the page of an evaluated run, by default ``report.html`` in its folder.

    Returns its path. Optional parts without data (images, history, baselines, confusions, timings)
    are left out. Raises ``UserError`` where there are no results, naming the stage to run first,
    and for a file that cannot be read or written.
    """
    run = FinishedRun.read(run_folder)
    with fitting_files(run_folder):
        page = path or run_folder / "report.html"
        return write_page(page, "run.html", _view(run, page))


def _view(run: FinishedRun, page: Path) -> dict[str, Any]:
    """The variables of the template of ``page``."""
    run_folder = run.folder
    results, information = run.results, run.information
    styles = _styles(results)
    published = {
        name: share for name in results["sets"] if (share := run.published(name)) is not None
    }
    compared = _comparisons(results, styles, published)
    return {
        "results": results,
        "styles": styles,
        **compared,
        "recall": recall_by_images(results, styles, compared["class_limit"]),
        "confusions": confusions(results),
        "coverage": coverage(results, run_folder),
        "source_of_published": published_source(),
        "sizes": {
            name: size_cells(one["accuracy"]["mean"], one["bytes"])
            for name, one in results["sets"].items()
            if "bytes" in one  # results of older versions lack it
        },
        "robustness": {
            SCORES[name]: value for name, value in results.get("robustness", {}).items()
        },
        "architectures": architectures(results),
        "norms": classifier_norms(results, styles),
        "galleries": galleries(run_folder / "distilled", results["class_counts"]),
        "warning": start_warning(results),
        "curves": curves(run_folder / "distilled" / "history.jsonl"),
        "timings": information.get("timings", {}),
        "peak_memory": information.get("peak_memory", {}),
        "facts": list(
            _facts(
                {
                    key: value
                    for key, value in information.items()
                    if key not in ("timings", "peak_memory")
                }
            )
        ),
        "downloads": downloads(run, page),
        "commands": commands(run),
        "config": run.config,
        "made_from": fingerprint(run_folder),
        "command": command("run", run_folder / "config.yaml", "--set", "output=repeat"),
    }


def fingerprint(run_folder: Path) -> str:
    """Hash of the files that the page of a run is made from.

    run.json is left out, since the time of the report is added to it. What the page shows of the
    earlier stages is in results.json, too.
    """
    digest = hashlib.sha256()
    for name in _SOURCES:
        file = run_folder / name
        content = read_bytes(file) if file.is_file() else b""
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def is_current(run_folder: Path) -> bool:
    """Whether ``report.html`` of the run was made from the files that are there now."""
    try:
        with open_regular(run_folder / "report.html") as page:
            head = page.read(_HEAD)
    except OSError:
        return False
    return f'content="{fingerprint(run_folder)}"'.encode() in head


def _styles(results: dict[str, Any]) -> dict[str, str]:
    """The class of each series in the style sheet."""
    fixed = {"random": "random", results["set"]: "leading"}
    others = (key for key in results["sets"] if key not in fixed)
    return fixed | {key: f"other-{i % OTHER_STYLES}" for i, key in enumerate(others)}


def _comparisons(
    results: dict[str, Any], styles: dict[str, str], published: dict[str, float]
) -> dict[str, Any]:
    """Accuracies of all series: overall, per group, and per class from head to tail.

    Each is {series: {"mean", "std"}}.
    """
    series, leading = results["sets"], results["set"]
    overall = {key: one["accuracy"] for key, one in series.items()}
    over_images = {
        key: one["accuracy_over_images"]
        for key, one in series.items()
        if "accuracy_over_images" in one  # results of older versions lack it
    }
    counts = results["class_counts"]
    groups = {
        group: {
            "described": _describe([counts[k] for k in members]),
            "accuracy": {key: one["groups"][group] for key, one in series.items()},
        }
        for group, members in class_groups(counts).items()
        if group in series[leading]["groups"]
    }
    classes = [
        {
            "name": results["class_names"][k],
            "count": counts[k],
            "accuracy": {
                key: {"mean": one["per_class"]["mean"][k], "std": one["per_class"]["std"][k]}
                for key, one in series.items()
            },
            "marks": [
                (styles[key], one["per_class"]["mean"][k])
                for key, one in series.items()
                if key != leading
            ],
        }
        for k in head_to_tail(counts)
        if series[leading]["per_class"]["mean"][k] is not None
    ]
    return {
        "leading": leading,
        "names": {key: one["title"] for key, one in series.items()},
        "overall": overall,
        "over_images": over_images,
        "unmeasured": some(results.get("unmeasured_classes", [])),
        "published": published,
        "groups": groups,
        "classes": classes,
        "limit": axis_limit(
            [
                *_reach([overall, over_images, *(group["accuracy"] for group in groups.values())]),
                *published.values(),
            ]
        ),
        "class_limit": axis_limit(_reach([row["accuracy"] for row in classes])),
    }


def _describe(counts: list[int]) -> str:
    """Number of classes of a group, and the range of their image counts, which are descending."""
    if len(counts) == 1:
        return f"1 class, {counts[0]:,} images"
    if counts[0] == counts[-1]:
        return f"{len(counts)} classes, {counts[0]:,} images each"
    return f"{len(counts)} classes, {counts[-1]:,} to {counts[0]:,} images each"


def _reach(comparisons: list[dict[str, dict[str, float | None]]]) -> list[float]:
    return [upper_end(value) for comparison in comparisons for value in comparison.values()]


def _facts(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(path in words, value) of every leaf that is not None."""
    for key, value in tree.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if isinstance(value, dict):
            yield from _facts(value, name)
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value)) or "none"
        elif value is not None:
            yield name, size(value) if key == "memory" else str(value)
