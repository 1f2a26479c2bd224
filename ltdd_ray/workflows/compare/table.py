"""The table of a comparison as text, Markdown, CSV and JSON: a row per method and per expert store.

Accuracies are shares 0..1 in rows, CSV and JSON, and percent in text and Markdown. Memory is the
peak of the largest process, in bytes.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import mean
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from ltdd_ray.config import RunConfig
from ltdd_ray.evaluate.results import accuracy_text, size_cells
from ltdd_ray.evaluate.robustness import compared_robustness
from ltdd_ray.methods.published import published_accuracy, published_source

HEADERS = (
    "method",
    "all",
    "many",
    "medium",
    "few",
    "over images",
    "soft labels",
    "hard labels",
    "LRS",
    "ARS",
    "kB",
    "% per kB",
    "experts s",
    "distill s",
    "evaluate s",
    "peak MiB",
    "published",
)
# The terminal shows a table of each, with the method's name.
PARTS = {
    "accuracy": ("all", "many", "medium", "few", "over images", "published"),
    "labels and bytes": ("soft labels", "hard labels", "LRS", "ARS", "kB", "% per kB"),
    "cost": ("experts s", "distill s", "evaluate s", "peak MiB"),
}


@dataclass(frozen=True)
class Row:
    """The results and costs of one method, or the costs of experts that several methods share.

    None where a value does not apply. ``accuracy`` is balanced accuracy, the mean over classes,
    ``accuracy_over_images`` the share of all images. ``std`` is also None for a single network.
    ``soft_accuracy`` and ``hard_accuracy`` are those with soft and with hard labels, ``labels`` the
    kind that ``accuracy`` has. ``label_robust`` and ``augmentation_robust`` are DD-Ranking's scores
    0..1 (:mod:`ltdd_ray.evaluate.robustness`). ``set_bytes`` counts the set and its labels.
    """

    method: str
    accuracy: float | None = None
    std: float | None = None
    many: float | None = None
    medium: float | None = None
    few: float | None = None
    accuracy_over_images: float | None = None
    labels: Literal["soft", "hard"] | None = None
    soft_accuracy: float | None = None
    hard_accuracy: float | None = None
    label_robust: float | None = None
    augmentation_robust: float | None = None
    set_bytes: int | None = None
    experts_seconds: float | None = None
    distill_seconds: float | None = None
    evaluate_seconds: float | None = None
    peak_memory: int | None = None
    published: float | None = None


def method_rows(configs: Sequence[RunConfig], results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows of finished runs; ``results`` are the contents of their results.json."""
    return [
        _method_row(config, one, scores)
        for config, one, scores in zip(configs, results, compared_robustness(results))
    ]


def _method_row(
    config: RunConfig, results: Mapping[str, Any], scores: Mapping[str, Sequence[float]]
) -> Row:
    means = {name: mean(values) for name, values in scores.items()}
    accuracy = {name: one["accuracy"]["mean"] for name, one in results["sets"].items()}
    first, labels = results["set"], results["labels"]
    groups = {name: group["mean"] for name, group in results["groups"].items()}
    dataset, factor = config.data.name or config.data.source, config.data.imbalance_factor
    own = {stage: peak for stage, peak in results["peak_memory"].items() if stage != "experts"}
    return Row(
        method=config.method,
        accuracy=results["accuracy"]["mean"],
        std=results["accuracy"]["std"],
        many=groups.get("many"),
        medium=groups.get("medium"),
        few=groups.get("few"),
        accuracy_over_images=results.get("accuracy_over_images", {}).get("mean"),
        labels=labels,
        soft_accuracy=accuracy[first] if labels == "soft" else None,
        hard_accuracy=accuracy[first] if labels == "hard" else accuracy.get(f"{first}_hard"),
        label_robust=means.get("lrs"),
        augmentation_robust=means.get("ars"),
        set_bytes=results.get("bytes"),
        distill_seconds=results["timings"].get("distill"),
        evaluate_seconds=results["timings"].get("evaluate"),
        peak_memory=max(own.values()),
        published=published_accuracy(dataset, factor, config.method, config.distill.ipc),
    )


def experts_rows(configs: Sequence[RunConfig], results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for each expert store, with the cost recorded by the run that trained the experts."""
    rows = []
    for store in dict.fromkeys(config.store_uri for config in configs if config.needs_experts):
        users = [
            (c, r) for c, r in zip(configs, results) if c.needs_experts and c.store_uri == store
        ]
        seconds = [r["timings"]["experts"] for _, r in users if "experts" in r["timings"]]
        peaks = [r["peak_memory"]["experts"] for _, r in users if "experts" in r["peak_memory"]]
        rows.append(
            Row(
                method="experts of " + ", ".join(c.method for c, _ in users),
                experts_seconds=sum(seconds) if seconds else None,
                peak_memory=max(peaks, default=None),
            )
        )
    return rows


def as_json(base: RunConfig, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        **_facts(base),
        "source_of_published": published_source(),
        "rows": [asdict(row) for row in rows],
    }


def as_csv(rows: Sequence[Row]) -> str:
    """One column per field of :class:`Row`, empty for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def as_markdown(base: RunConfig, rows: Sequence[Row]) -> str:
    ruler = ["---", *("---:" for _ in HEADERS[1:])]
    lines = [
        f"| {' | '.join(cells)} |" for cells in (HEADERS, ruler, *(_cells(row) for row in rows))
    ]
    return "\n".join([f"# {_title(base)}", "", *lines, "", f"Published: {published_source()}.", ""])


def as_text(base: RunConfig, rows: Sequence[Row]) -> Group:
    """Tables of accuracies, labels and costs to print with rich, which fit 80 columns each.

    Tables, columns and rows without any value are left out.
    """
    cells: list[dict[str, str]] = [dict(zip(HEADERS, _cells(row))) for row in rows]
    tables = [_part(title, headers, cells) for title, headers in PARTS.items()]
    return Group(_title(base), *(table for table in tables if table.rows))


def _part(title: str, headers: Sequence[str], cells: Sequence[Mapping[str, str]]) -> Table:
    """The columns ``headers`` of ``cells``, a mapping for each row, beside the method."""
    filled = [header for header in headers if any(row[header] for row in cells)]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("method", overflow="fold")
    for header in filled:
        table.add_column(header, justify="right", no_wrap=True)
    for row in cells:
        values = [row[header] for header in filled]
        if any(values):
            table.add_row(row["method"], *values)
    return table


def _facts(base: RunConfig) -> dict[str, Any]:
    return {
        "name": base.name,
        "dataset": base.data.name or base.data.source,
        "imbalance_factor": base.data.imbalance_factor,
        "ipc": base.distill.ipc,
        "model": base.model.model_dump(mode="json"),
        "networks": base.evaluate.networks,
        "split": base.evaluate.split,
    }


def _title(base: RunConfig) -> str:
    data, factor = base.data.name or base.data.source, base.data.imbalance_factor
    profile = "natural class counts" if factor is None else f"imbalance factor {factor:g}"
    model = (
        f"{base.model.name} of width {base.model.width}"
        if base.model.name == "convnet"
        else base.model.name
    )
    networks = base.evaluate.networks
    measured = (
        f"balanced accuracy in % on its {base.evaluate.split} images, "
        f"{networks} network{'s' if networks > 1 else ''} ({model})"
    )
    images = (
        "unequal budgets" if base.distill.ipc is None else f"{base.distill.ipc} images per class"
    )
    return f"{base.name}: {data}, {profile}, {images}; {measured}"


def _cells(row: Row) -> list[str]:
    accuracy = "" if row.accuracy is None else accuracy_text(row.accuracy, row.std)
    groups = [
        _percent(share) for share in (row.many, row.medium, row.few, row.accuracy_over_images)
    ]
    scores = [
        _percent(share)
        for share in (
            row.soft_accuracy,
            row.hard_accuracy,
            row.label_robust,
            row.augmentation_robust,
        )
    ]
    sized = (
        ["", ""]
        if row.accuracy is None or row.set_bytes is None
        else size_cells(row.accuracy, row.set_bytes)
    )
    seconds = [
        _whole(value) for value in (row.experts_seconds, row.distill_seconds, row.evaluate_seconds)
    ]
    memory = _whole(None if row.peak_memory is None else row.peak_memory / 2**20)
    return [
        row.method,
        accuracy,
        *groups,
        *scores,
        *sized,
        *seconds,
        memory,
        _percent(row.published),
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
