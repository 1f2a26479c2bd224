"""A self-contained HTML page that compares several runs, made from the files in their folders.

Accuracies are fractions 0..1 and those of the first set in ``evaluate.sets``: means over classes
unless they are said to be over images. The style of a run, ``run-0`` and so on, is its class in the
HTML. Elements of this class have the colour of the run and are hidden together with it.
"""

from collections.abc import Mapping, Sequence
from os.path import relpath
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ltdd_ray.data.groups import class_groups
from ltdd_ray.evaluate.results import size_cells
from ltdd_ray.evaluate.robustness import SCORES
from ltdd_ray.methods.published import published_source
from ltdd_ray.report.charts import axis_limit, rank_chart, upper_end
from ltdd_ray.report.finished import FinishedRun, fitting_files
from ltdd_ray.report.images import preview
from ltdd_ray.report.template import render_page, write_page

# Settings that do not change the result of a run.
NOT_SHOWN = ("name", "output", "search.", "experts.store")
TIMED_STAGES = ("experts", "distill", "evaluate")

Runs = Mapping[str, FinishedRun]  # by style


def write_comparison(
    folders: Sequence[Path], path: Path, robustness: Sequence[Mapping[str, Any]] | None = None
) -> Path:
    """Write the page that compares the evaluated runs in ``folders``; returns its path.

    ``robustness`` has the scores of each run, as in results.json; by default those found there.
    Raises ``UserError`` for the reasons of :func:`~ltdd_ray.report.page.write_report`.
    """
    runs: dict[str, FinishedRun] = {}
    scores, previews = {}, {}
    given = [None] * len(folders) if robustness is None else robustness
    for i, (folder, own) in enumerate(zip(folders, given, strict=True)):
        style = f"run-{i}"
        with fitting_files(folder):
            runs[style] = run = FinishedRun.read(folder)
            scores[style] = run.results.get("robustness", {}) if own is None else own
            if found := preview(folder / "distilled", run.results["class_counts"]):
                previews[style] = found
            # A page of this run alone, so that an error names the run at fault.
            render_page("comparison.html", _view({style: run}, path, scores, previews))
    with fitting_files(folders[0].parent):
        return write_page(path, "comparison.html", _view(runs, path, scores, previews))


def _view(
    runs: Runs,
    path: Path,
    scores: Mapping[str, Mapping[str, Any]],
    previews: Mapping[str, Any],
) -> dict[str, Any]:
    """The variables of the template, of scores and previews those of ``runs`` alone."""
    return {
        "made_from": None,
        "runs": runs,
        "names": dict(zip(runs, _names(list(runs.values())))),
        "styles": {style: style for style in runs},
        **_accuracies(runs),
        "source_of_published": published_source(),
        "classes": _classes(runs),
        "settings": _different_settings(runs),
        "stages": [
            stage
            for stage in TIMED_STAGES
            if any(stage in run.information.get("timings", {}) for run in runs.values())
        ],
        "previews": {style: previews[style] for style in runs if style in previews},
        "links": {
            style: link
            for style, run in runs.items()
            if (link := _link(run.folder / "report.html", path))
        },
        **_labels(runs, {style: scores[style] for style in runs}),
    }


def _labels(runs: Runs, robustness: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracies {kind of labels: {style: {"mean", "std"}}}, sizes, and scores that any run has."""
    by_labels: dict[str, dict[str, Any]] = {"soft": {}, "hard": {}}
    for style, run in runs.items():
        own, sets = run.results["set"], run.results["sets"]
        if f"{own}_hard" in sets:
            by_labels["hard"][style] = sets[f"{own}_hard"]["accuracy"]
        by_labels[sets[own]["labels"]][style] = sets[own]["accuracy"]
    found = [name for name in SCORES if any(name in own for own in robustness.values())]
    return {
        "sizes": {
            style: size_cells(run.results["accuracy"]["mean"], run.results["bytes"])
            if "bytes" in run.results  # results of older versions lack it
            else ["", ""]
            for style, run in runs.items()
        },
        "by_labels": by_labels,
        "robustness": robustness,
        "scores": {name: SCORES[name] for name in found},
    }


def _link(page: Path, start: Path) -> str:
    """The relative link to ``page`` from a page at ``start``; empty where ``page`` is missing."""
    return quote(relpath(page, start.parent)) if page.exists() else ""


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """A label for each run: its name without the common prefix, or its folder if names repeat."""
    names = [PurePosixPath(run.results["name"]) for run in runs]
    if len(set(names)) < len(names):
        return [str(run.folder) for run in runs]
    shared = next(
        parent for parent in names[0].parents if all(parent in name.parents for name in names)
    )
    return [str(name.relative_to(shared)) for name in names]


def _accuracies(runs: Runs) -> dict[str, Any]:
    """Accuracies {style: {"mean", "std"}} over all classes and per group.

    Also the published accuracies, and the end of the bars' axis.
    """
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
    over_images = {
        style: run.results["accuracy_over_images"]
        for style, run in runs.items()
        if "accuracy_over_images" in run.results  # results of older versions lack it
    }
    published = {
        style: share
        for style, run in runs.items()
        if (share := run.published(run.results["set"])) is not None
    }
    reach = [
        upper_end(value)
        for values in (overall, over_images, *groups.values())
        for value in values.values()
    ]
    limit = axis_limit([*reach, *published.values()])
    return {
        "overall": overall,
        "over_images": over_images,
        "groups": groups,
        "published": published,
        "limit": limit,
    }


def _classes(runs: Runs) -> dict[str, Any]:
    """Accuracy of every class from head to tail: a chart and the rows of a table.

    A row has the name of a class, its numbers of training images, and {style: {"mean", "std"}}.
    Empty where runs have different classes, or fewer than two that all have test images.
    """
    first = next(iter(runs.values())).results
    if any(run.results["class_names"] != first["class_names"] for run in runs.values()):
        return {}
    order = [
        k
        for members in class_groups(first["class_counts"]).values()
        for k in members
        if all(run.results["per_class"]["mean"][k] is not None for run in runs.values())
    ]
    if len(order) < 2:  # a line needs two ends
        return {}
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
    spreads = {
        style: [100 * share for share in values]
        for style, values in stds.items()
        if None not in values
    }
    label = "Accuracy of every class in %, from head to tail; the table has the numbers"
    return {
        "chart": rank_chart(percent, ("head", "tail"), label, spreads),
        "bands": bool(spreads),
        "rows": rows,
    }


def _different_settings(runs: Runs) -> dict[str, dict[str, str]]:
    """{dotted key: {style: value as text}} of the settings that differ between runs."""
    keys = dict.fromkeys(
        key for run in runs.values() for key in run.settings if not key.startswith(NOT_SHOWN)
    )
    values = {
        key: {style: _text(run.settings.get(key)) for style, run in runs.items()} for key in keys
    }
    return {key: words for key, words in values.items() if len(set(words.values())) > 1}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
