"""From single networks to what a run reports: mean and standard deviation, per class and per group."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from ltdd_ray.config import RunConfig, result_fingerprint
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.groups import class_groups
from ltdd_ray.evaluate.train import NetworkResult


def summarise(
    config: RunConfig, train: LongTailedDataset, networks: Sequence[NetworkResult], run: dict[str, Any]
) -> dict[str, Any]:
    """The content of results.json: accuracies as shares 0..1, the ``distilled`` set's at the top level, others beside it.

    ``run`` adds what the run knows of itself (timings, peak memory, versions). Groups go by the training class counts.
    """
    of_set = {name: [n for n in networks if n.set_name == name] for name in config.evaluate.sets}
    tables = {name: _accuracies(found, train) for name, found in of_set.items()}
    return {
        "name": config.name,
        "dataset": config.data.source,
        "imbalance_factor": int(train.class_counts.max()) / int(train.class_counts.min()),
        "ipc": config.distill.ipc,
        "method": config.method,
        "model": config.model.model_dump(mode="json"),
        "split": config.evaluate.split,
        "class_names": list(train.class_names),
        "class_counts": train.class_counts.tolist(),
        **tables.get("distilled", {}),
        **({"random_baseline": tables["random"]} if "random" in tables else {}),
        **{name: tables[name] for name in ("initial", "distilled_8bit") if name in tables},
        "config_hash": result_fingerprint(config),
        **run,
    }


def _accuracies(networks: Sequence[NetworkResult], train: LongTailedDataset) -> dict[str, Any]:
    overall = [n.accuracy for n in networks]
    per_class = np.array([n.per_class for n in networks])  # (networks, C)
    groups = {name: _spread(per_class[:, list(classes)].mean(1)) for name, classes in class_groups(train.class_counts).items()}
    return {
        "accuracy": {**_spread(overall), "runs": overall},
        "per_class": {"mean": per_class.mean(0).tolist(), "std": _deviation(per_class).tolist()},
        "groups": groups,
    }


def _spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "std": float(_deviation(np.asarray(values)))}


def _deviation(values: np.ndarray) -> np.ndarray:
    """Sample standard deviation over networks (the first axis); 0 for a single one."""
    return values.std(0, ddof=1) if len(values) > 1 else np.zeros_like(values[0])


def results_table(results: dict[str, Any]) -> Table:
    """Accuracy in percent, mean and deviation over networks, overall and per group."""
    method = results["method"].upper()
    rows = {
        method: results,
        f"{method} in 8 bits": results.get("distilled_8bit"),
        f"{method} before its first update": results.get("initial"),
        "random selection": results.get("random_baseline"),
    }
    rows = {title: row for title, row in rows.items() if row and "accuracy" in row}
    groups = next(iter(rows.values()))["groups"]
    table = Table(title=f"{results['name']}: accuracy in % on the {results['split']} images, IPC {results['ipc']}")
    for column in ("", "all", *groups):
        table.add_column(column, justify="left" if not column else "right")
    for title, row in rows.items():
        cells = [row["accuracy"], *row["groups"].values()]
        table.add_row(title, *(f"{100 * cell['mean']:.1f} ± {100 * cell['std']:.1f}" for cell in cells))
    return table
