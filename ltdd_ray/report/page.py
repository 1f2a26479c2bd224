"""One self-contained HTML page about one run, made from the files in its folder alone.

Accuracies are fractions 0..1. A series is what was trained on, by its name in ``evaluate.sets``: the distilled set, random images,
the set before distillation and so on. The first of them leads: it is the run's result.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ltdd_ray.data.groups import class_groups
from ltdd_ray.errors import UserError
from ltdd_ray.files import write_atomic
from ltdd_ray.report import charts
from ltdd_ray.report.history import curves
from ltdd_ray.report.images import galleries
from ltdd_ray.report.networks import architectures, classifier_norms

REQUIRED = ("name", "dataset", "ipc", "method", "model", "split", "class_names", "class_counts", "set", "sets")
OTHER_STYLES = 4  # colours in the style sheet for series that neither lead nor are the random selection


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` into the folder of an evaluated run and return its path.

    What is optional and missing (images, history, baselines, timings) is left out. Raises ``UserError`` naming the stage to
    run first where there are no results, or the file that cannot be read.
    """
    results = _read_results(run_folder)
    information = _read_json(run_folder / "run.json") or {}
    styles = _styles(results)
    view = {
        "results": results,
        "styles": styles,
        **_comparisons(results, styles),
        "architectures": architectures(results),
        "norms": classifier_norms(results, styles),
        "galleries": galleries(run_folder / "distilled", results["class_counts"]),
        "curves": curves(run_folder / "distilled" / "history.jsonl"),
        "timings": information.get("timings", {}),
        "peak_memory": information.get("peak_memory", {}),
        "facts": list(_facts({key: value for key, value in information.items() if key not in ("timings", "peak_memory")})),
        "config": _read_text(run_folder / "config.yaml"),
        "command": f"ltdd-ray run {shlex.quote(str(run_folder / 'config.yaml'))} --set output=repeat",
    }
    path = run_folder / "report.html"
    write_atomic(path, _environment().get_template("page.html").render(view).encode())
    return path


def duration(seconds: float) -> str:
    """Two units at most: ``3.2 s``, ``1 min 35 s``, ``8 h 43 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes in MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ltdd_ray.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, size=size)
    environment.globals["bar"] = charts.bar
    return environment


def _styles(results: dict[str, Any]) -> dict[str, str]:
    """The style sheet's class for each series."""
    fixed = {"random": "random", results["set"]: "leading"}
    others = (key for key in results["sets"] if key not in fixed)
    return fixed | {key: f"other-{i % OTHER_STYLES}" for i, key in enumerate(others)}


def _comparisons(results: dict[str, Any], styles: dict[str, str]) -> dict[str, Any]:
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
                key: {"mean": one["per_class"]["mean"][k], "std": one["per_class"]["std"][k]} for key, one in series.items()
            },
            "marks": [(styles[key], one["per_class"]["mean"][k]) for key, one in series.items() if key != leading],
        }
        for k in sorted(range(len(counts)), key=lambda k: -counts[k])
    ]
    return {
        "leading": leading,
        "names": {key: one["title"] for key, one in series.items()},
        "overall": overall,
        "groups": groups,
        "classes": classes,
        "limit": charts.axis_limit(_reach([overall, *(group["accuracy"] for group in groups.values())])),
        "class_limit": charts.axis_limit(_reach([row["accuracy"] for row in classes])),
    }


def _describe(counts: list[int]) -> str:
    """A group's size and its classes' image counts, which fall."""
    if len(counts) == 1:
        return f"1 class, {counts[0]:,} images"
    return f"{len(counts)} classes, {counts[-1]:,} to {counts[0]:,} images each"


def _reach(comparisons: list[dict[str, dict[str, float]]]) -> list[float]:
    return [value["mean"] + value["std"] for comparison in comparisons for value in comparison.values()]


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


def _read_results(run_folder: Path) -> dict[str, Any]:
    if not run_folder.is_dir():
        raise UserError(f"{run_folder}: no such run folder; name the folder that `ltdd-ray run` wrote")
    results = _read_json(run_folder / "results.json")
    if results is None:
        stage = "evaluate" if (run_folder / "distilled" / "distilled.safetensors").exists() else "run"
        config = run_folder / "config.yaml" if (run_folder / "config.yaml").exists() else "CONFIG"
        raise UserError(f"{run_folder}: no results.json, so there is nothing to report; run `ltdd-ray {stage} {config}` first")
    missing = [key for key in REQUIRED if key not in results]
    if missing:
        raise UserError(f"{run_folder / 'results.json'}: lacks `{missing[0]}`; delete the file and run `ltdd-ray evaluate` again")
    return results


def _read_json(path: Path) -> dict[str, Any] | None:
    text = _read_text(path)
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); delete it and run the stage that writes it again") from None


def _read_text(path: Path) -> str:
    """The file's text, empty where there is no file."""
    return path.read_text(encoding="utf-8") if path.exists() else ""
