"""One self-contained HTML page about one run, made from the files in its folder alone.

Accuracies are fractions 0..1. A series is what was trained on, by its name in ``evaluate.sets``: the distilled set, random images,
the set before distillation and so on. The first of them leads: it is the run's result.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltdd_ray.common.units import size
from ltdd_ray.data.groups import class_groups
from ltdd_ray.methods.published import published_source
from ltdd_ray.report.charts import axis_limit
from ltdd_ray.report.finished import FinishedRun
from ltdd_ray.report.history import curves
from ltdd_ray.report.images import galleries
from ltdd_ray.report.networks import architectures, classifier_norms
from ltdd_ray.report.template import write_page

OTHER_STYLES = (
    4  # colours in the style sheet for series that neither lead nor are the random selection
)


def write_report(run_folder: Path, path: Path | None = None) -> Path:
    """Write the page of an evaluated run, by default ``report.html`` in its folder, and return its path.

    What is optional and missing (images, history, baselines, timings) is left out. Raises ``UserError`` naming the stage to
    run first where there are no results, or the file that cannot be read or written.
    """
    run = FinishedRun.read(run_folder)
    results, information = run.results, run.information
    styles = _styles(results)
    published = {
        name: share for name in results["sets"] if (share := run.published(name)) is not None
    }
    view = {
        "results": results,
        "styles": styles,
        **_comparisons(results, styles, published),
        "source_of_published": published_source(),
        "architectures": architectures(results),
        "norms": classifier_norms(results, styles),
        "galleries": galleries(run_folder / "distilled", results["class_counts"]),
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
        "config": run.config,
        "command": f"ltdd-ray run {shlex.quote(str(run_folder / 'config.yaml'))} --set output=repeat",
    }
    return write_page(path or run_folder / "report.html", "run.html", view)


def _styles(results: dict[str, Any]) -> dict[str, str]:
    """The style sheet's class for each series."""
    fixed = {"random": "random", results["set"]: "leading"}
    others = (key for key in results["sets"] if key not in fixed)
    return fixed | {key: f"other-{i % OTHER_STYLES}" for i, key in enumerate(others)}


def _comparisons(
    results: dict[str, Any], styles: dict[str, str], published: dict[str, float]
) -> dict[str, Any]:
    """The series side by side, {series: {"mean", "std"}}: over all classes, per group, and per class from head to tail."""
    series, leading = results["sets"], results["set"]
    overall = {key: one["accuracy"] for key, one in series.items()}
    counts = results["class_counts"]
    groups = {
        group: {
            "described": _describe([counts[k] for k in members]),
            "accuracy": {key: one["groups"][group] for key, one in series.items()},
        }
        for group, members in class_groups(counts).items()
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
        for k in sorted(range(len(counts)), key=lambda k: -counts[k])
    ]
    return {
        "leading": leading,
        "names": {key: one["title"] for key, one in series.items()},
        "overall": overall,
        "published": published,
        "groups": groups,
        "classes": classes,
        "limit": axis_limit(
            [
                *_reach([overall, *(group["accuracy"] for group in groups.values())]),
                *published.values(),
            ]
        ),
        "class_limit": axis_limit(_reach([row["accuracy"] for row in classes])),
    }


def _describe(counts: list[int]) -> str:
    """A group's size and its classes' image counts, which fall."""
    if len(counts) == 1:
        return f"1 class, {counts[0]:,} images"
    return f"{len(counts)} classes, {counts[-1]:,} to {counts[0]:,} images each"


def _reach(comparisons: list[dict[str, dict[str, float]]]) -> list[float]:
    return [
        value["mean"] + value["std"] for comparison in comparisons for value in comparison.values()
    ]


def _facts(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf that says something, as (path in words, value)."""
    for key, value in tree.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if isinstance(value, dict):
            yield from _facts(value, name)
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value)) or "none"
        elif value is not None:
            yield name, size(value) if key == "memory" else str(value)
