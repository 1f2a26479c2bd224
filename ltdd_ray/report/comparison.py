"""One self-contained HTML page about several runs side by side, made from the files in their folders alone.

Accuracies are fractions 0..1, those of each run's result: the first of its ``evaluate.sets``. A run's style, ``run-0`` and so on,
is its class in the page: what carries it has its colour, and goes where the run is left out.
"""

from collections.abc import Mapping, Sequence
from os.path import relpath
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ltdd_ray.data.groups import class_groups
from ltdd_ray.methods.published import published_source
from ltdd_ray.report.charts import axis_limit, rank_chart
from ltdd_ray.report.finished import FinishedRun
from ltdd_ray.report.images import preview
from ltdd_ray.report.template import write_page

# Where a run lies and how a search would go about it says nothing of the run.
NOT_SHOWN = ("name", "output", "search.", "experts.store")
STAGES = ("experts", "distill", "evaluate")

Runs = Mapping[str, FinishedRun]  # by style


def write_comparison(folders: Sequence[Path], path: Path) -> Path:
    """Write the page that compares the evaluated runs in ``folders`` and return its path.

    Raises ``UserError`` as :func:`~ltdd_ray.report.page.write_report` does.
    """
    runs = {f"run-{i}": FinishedRun.read(folder) for i, folder in enumerate(folders)}
    view = {
        "runs": runs,
        "names": dict(zip(runs, _names(list(runs.values())))),
        "styles": {style: style for style in runs},
        **_accuracies(runs),
        "source_of_published": published_source(),
        "classes": _classes(runs),
        "settings": _different_settings(runs),
        "stages": [
            stage
            for stage in STAGES
            if any(stage in run.information.get("timings", {}) for run in runs.values())
        ],
        "previews": {
            style: found
            for style, run in runs.items()
            if (found := preview(run.folder / "distilled", run.results["class_counts"]))
        },
        "links": {
            style: link
            for style, run in runs.items()
            if (link := _link(run.folder / "report.html", path))
        },
    }
    return write_page(path, "comparison.html", view)


def _link(page: Path, start: Path) -> str:
    """The address of ``page`` on a page at ``start``; empty where there is none."""
    return quote(relpath(page, start.parent)) if page.exists() else ""


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """What to call each run: its name without what all names begin with, or its folder where two runs have one name."""
    names = [PurePosixPath(run.results["name"]) for run in runs]
    if len(set(names)) < len(names):
        return [str(run.folder) for run in runs]
    shared = next(
        parent for parent in names[0].parents if all(parent in name.parents for name in names)
    )
    return [str(name.relative_to(shared)) for name in names]


def _accuracies(runs: Runs) -> dict[str, Any]:
    """{style: {"mean", "std"}} over all classes and per group, the published numbers, and the end of the bars' axis."""
    overall = {style: run.results["accuracy"] for style, run in runs.items()}
    found = {
        group: {
            style: run.results["groups"][group]
            for style, run in runs.items()
            if group in run.results["groups"]
        }
        for group in ("many", "medium", "few")
    }
    groups = {group: values for group, values in found.items() if values}
    published = {
        style: share
        for style, run in runs.items()
        if (share := run.published(run.results["set"])) is not None
    }
    reach = [
        value["mean"] + value["std"]
        for values in (overall, *groups.values())
        for value in values.values()
    ]
    limit = axis_limit([*reach, *published.values()])
    return {"overall": overall, "groups": groups, "published": published, "limit": limit}


def _classes(runs: Runs) -> dict[str, Any]:
    """Accuracy of every class, head to tail: a ``chart``, and ``rows`` with a class's name, its training images in each run and
    {style: {"mean", "std"}}. Empty where runs differ in their classes."""
    first = next(iter(runs.values())).results
    if any(run.results["class_names"] != first["class_names"] for run in runs.values()):
        return {}
    order = [k for members in class_groups(first["class_counts"]).values() for k in members]
    means, stds = (
        {s: [run.results["per_class"][key][k] for k in order] for s, run in runs.items()}
        for key in ("mean", "std")
    )
    rows = [
        {
            "name": first["class_names"][k],
            "counts": sorted(
                {run.results["class_counts"][k] for run in runs.values()}, reverse=True
            ),
            "accuracy": {style: {"mean": means[style][i], "std": stds[style][i]} for style in runs},
        }
        for i, k in enumerate(order)
    ]
    percent = {style: [100 * share for share in values] for style, values in means.items()}
    spreads = {style: [100 * share for share in values] for style, values in stds.items()}
    label = "Accuracy of every class in %, head to tail, with a band of its standard deviation; the table has the numbers"
    return {"chart": rank_chart(percent, ("head", "tail"), label, spreads), "rows": rows}


def _different_settings(runs: Runs) -> dict[str, dict[str, str]]:
    """{dotted key: {style: value in words}} of the settings that are not the same in all runs."""
    keys = dict.fromkeys(
        key for run in runs.values() for key in run.settings if not key.startswith(NOT_SHOWN)
    )
    values = {
        key: {style: _words(run.settings.get(key)) for style, run in runs.items()} for key in keys
    }
    return {key: words for key, words in values.items() if len(set(words.values())) > 1}


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
