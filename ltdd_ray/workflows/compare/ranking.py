"""The ranking of ``ltdd-ray recommend``, its uncertainty, and the config to run.

R networks, N held-out images, C classes; margins as in :mod:`ltdd_ray.evaluate.held_out`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from rich.table import Table

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config
from ltdd_ray.evaluate.held_out import score_of
from ltdd_ray.workflows.compare.plan import plan_comparison

ERRORS_APART = 2.0


@dataclass(frozen=True)
class Ranked:
    """A method's estimated balanced accuracy 0..1 with its standard error.

    The error is that of the choice of images and of the networks, not of the run: each method made
    one set. ``level`` says that the method cannot be told from the first.
    """

    method: str
    accuracy: float
    error: float
    level: bool


def rank(
    found: Mapping[str, np.ndarray], labels: np.ndarray, counts: np.ndarray, trend_weight: float
) -> list[Ranked]:
    """The methods with margins ``found`` (R, N) by name, best first.

    The other arguments are those of :func:`~ltdd_ray.evaluate.held_out.estimated_accuracy`. A
    method is level with the first where the difference is below two of its standard errors.
    """
    scores = {name: score_of(one, labels, counts, trend_weight) for name, one in found.items()}
    order = sorted(scores, key=lambda name: -scores[name].accuracy)
    networks = _variance_of_networks(found.values(), labels, counts, trend_weight)
    first = order[0]
    ranking = []
    for name in order:
        apart = scores[first].accuracy - scores[name].accuracy
        error = sqrt(
            difference_error(found[first], found[name], labels, len(counts)) ** 2 + 2 * networks
        )
        level = name == first or apart < ERRORS_APART * error
        own = sqrt(scores[name].standard_error ** 2 + networks)
        ranking.append(Ranked(name, scores[name].accuracy, own, level))
    return ranking


def difference_error(a: np.ndarray, b: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Standard error of the difference of two balanced accuracies, over the choice of the images.

    Both are measured on the same images, so images that both predict alike add nothing. A class
    counts as if two more images had been seen, one that only one method predicts and one that both
    do. ``a`` and ``b`` are margins (R, N), ``labels`` (N,).
    """
    gap = (a > 0).mean(0) - (b > 0).mean(0)
    held = np.bincount(labels, minlength=classes)
    mean = np.bincount(labels, gap, classes) / (held + 2)
    square = (np.bincount(labels, gap**2, classes) + 1) / (held + 2)
    return float(np.sqrt(np.sum((square - mean**2) / np.maximum(held, 1))) / classes)


def _variance_of_networks(
    found: Iterable[np.ndarray], labels: np.ndarray, counts: np.ndarray, trend_weight: float
) -> float:
    """Variance of a mean over R networks, taken as equal for all methods; 0 for one network."""
    accuracies = [
        [score_of(network[None], labels, counts, trend_weight).accuracy for network in one]
        for one in found
        if len(one) > 1 and np.isfinite(one).all()
    ]
    return float(np.mean([np.var(one, ddof=1) / len(one) for one in accuracies] or [0.0]))


def as_table(ranking: Sequence[Ranked], title: str) -> Table:
    table = Table(title=f"{title}: balanced accuracy in % on held-out training images")
    for header in ("", "method", "accuracy", "standard error", ""):
        table.add_column(
            header, justify="right" if header in ("accuracy", "standard error") else "left"
        )
    for place, row in enumerate(ranking, 1):
        level = "level with the first" if row.level and place > 1 else ""
        table.add_row(
            str(place), row.method, f"{100 * row.accuracy:.1f}", f"{100 * row.error:.1f}", level
        )
    return table


def verdict(ranking: Sequence[Ranked]) -> str:
    """One or two sentences: the first method, and those that cannot be told from it."""
    first, *others = ranking
    level = ", ".join(row.method for row in others if row.level)
    told = f"; in this time it cannot be told from {level}" if level else ""
    return f"{first.method} is first{told}. Short runs favour methods that start well."


def config_to_run(config: RunConfig, ranking: Sequence[Ranked]) -> str:
    """The text of best.yaml: the whole run of the first method, as a comparison would run it."""
    first = ranking[0].method
    rows = [
        f"#   {row.method}: {100 * row.accuracy:.1f} ± {100 * row.error:.1f}" for row in ranking
    ]
    head = [
        f"# {verdict(ranking)}",
        "# Balanced accuracy in % of short runs on held-out training images, with standard errors:",
        *rows,
    ]
    return "\n".join([*head, dump_config(plan_comparison(config, [first])[first])])
