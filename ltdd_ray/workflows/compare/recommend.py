"""``ltdd-ray recommend``: short runs of a few methods, ranked on held-out training images.

The runs are those of ``ltdd-ray compare`` with fewer updates, evaluation epochs and, where experts
would take more than half of the time, fewer experts. The test images are not used.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ltdd_ray.cluster.image_cache import ray_writer
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.shell import command
from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.common.units import duration
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import merge, parse_config
from ltdd_ray.data.load import load_data
from ltdd_ray.distill.formation import require_cells
from ltdd_ray.methods import method_config
from ltdd_ray.workflows.compare.run_methods import compare
from ltdd_ray.workflows.cost import estimate_cost

CANDIDATES = ("tgdd_mosaic", "ltdd_mosaic", "ltdd", "idm", "random_soft_mosaic", "random_soft")
HELD_OUT, NETWORKS = 0.2, 2
LARGEST_EXPERT_SHARE, SMALLEST_SHARE = 0.5, 0.02
SECONDS_TO_START = 10.0  # of a stage; estimates leave it out
STARTED_STAGES = 2  # of a method that distils: distillation and evaluation

Costs = Mapping[str, Mapping[str, float]]  # by method: seconds of each stage of the whole run


@dataclass(frozen=True)
class Ranked:
    """A method's balanced accuracy 0..1 on held-out images.

    ``error`` is its standard error over networks and over the choice of the images.
    """

    method: str
    accuracy: float
    error: float
    few: float | None


def recommend(
    config: RunConfig,
    minutes: float,
    methods: Sequence[str] | None = None,
    console: Console | None = None,
    file: str = "CONFIG",
) -> list[Ranked]:
    """Run ``methods``, by default :data:`CANDIDATES`, in about ``minutes`` and print a ranking.

    Without ``methods`` a candidate that does not fit the config or the images is left out, which is
    said. The runs are in the folder ``recommend`` of the run. ``file`` is named in the command to
    run next. Raises ``UserError`` where the time is too short, and for the reasons of
    :func:`~ltdd_ray.workflows.compare.run_methods.compare`.
    """
    console = console or PlainConsole()
    base = held_out_config(config)
    splits = load_data(base.data, base.seed, ray_writer(base.compute))
    shape = splits.train.image_shape
    chosen = _possible(base, shape, console) if methods is None else list(methods)
    costs = {m: estimate_cost(method_config(base, m), splits).seconds for m in chosen}
    quick = fitted(base, costs, minutes)
    say = f"recommend: {quick.experts.count} experts, {quick.evaluate.epochs} evaluation epochs"
    console.print(f"{say}; about {minutes:g} min", highlight=False)
    compare(quick, chosen, console)
    assert splits.validation is not None  # held_out_config asks for it
    held = splits.validation.class_counts
    results = [json.loads((quick.folder / m / "results.json").read_text()) for m in chosen]
    ranking = ranked(results, held)
    console.print(as_table(ranking, quick))
    for sentence in advice(ranking, file):
        console.print(sentence, highlight=False, soft_wrap=True)
    return ranking


def held_out_config(config: RunConfig) -> RunConfig:
    """``config`` measured on held-out training images, with few networks, in its own folder."""
    changes = {
        "name": f"{config.name}/recommend",
        "data": {"validation_fraction": config.data.validation_fraction or HELD_OUT},
        "experts": {"store": None},  # experts of the run have seen the held-out images
        "evaluate": {
            "split": "validation",
            "networks": min(config.evaluate.networks, NETWORKS),
            "models": [],
            "sets": ["distilled"],  # a method's own set alone
        },
    }
    return parse_config(merge(config.model_dump(mode="json"), changes), f"{config.name}, recommend")


def _possible(base: RunConfig, shape: tuple[int, int, int], console: Console) -> list[str]:
    found = []
    for method in CANDIDATES:
        try:
            require_cells(shape, method_config(base, method).distill.pictures_per_side)
            found.append(method)
        except UserError as error:
            console.print(f"recommend: {method} is left out: {error}", soft_wrap=True)
    return found


def fitted(base: RunConfig, costs: Costs, minutes: float) -> RunConfig:
    """``base`` with as many experts, updates and evaluation epochs as fit into ``minutes``.

    Experts, which methods share, take at most half of the time. Updates and epochs are cut to one
    share of those of ``base``. Raises ``UserError`` where that share is under 2 %.
    """
    whole = 60 * minutes - SECONDS_TO_START * STARTED_STAGES * len(costs)
    experts = max((seconds.get("experts", 0.0) for seconds in costs.values()), default=0.0)
    count = base.experts.count
    if experts > LARGEST_EXPERT_SHARE * whole:
        count = max(1, int(count * LARGEST_EXPERT_SHARE * whole / experts))
        experts *= count / base.experts.count
    rest = sum(s.get("distill", 0.0) + s["evaluate"] for s in costs.values())
    share = min(1.0, (whole - experts) / rest)
    if share < SMALLEST_SHARE:
        needed = SECONDS_TO_START * STARTED_STAGES * len(costs) + experts + SMALLEST_SHARE * rest
        raise UserError(
            f"recommend: {minutes:g} minutes are too short for {len(costs)} methods, which take at "
            f"least {duration(needed)} here; raise --minutes or name fewer methods with --methods"
        )

    def cut(number: int) -> int:
        return max(1, round(share * number))

    distill, evaluate = base.distill, base.evaluate
    distribution = distill.distribution
    changes: dict[str, Any] = {
        "experts": {"count": count},
        "distill": {
            "updates": cut(distill.updates),
            "distribution": {"updates": cut(distribution.updates)},
        },
        "evaluate": {
            "epochs": cut(evaluate.epochs),
            "full_data": {"epochs": cut(evaluate.full_data.epochs)},
        },
    }
    return parse_config(merge(base.model_dump(mode="json"), changes), base.name)


def ranked(results: Sequence[Mapping[str, Any]], held: np.ndarray) -> list[Ranked]:
    """The methods of ``results`` (results.json each), best first; ``held`` (C,) images per class.

    The error of the choice of images takes every image for an independent draw, with accuracies
    smoothed to (m a + 1) / (m + 2).
    """
    found = []
    for one in results:
        runs, shares = one["accuracy"]["runs"], one["per_class"]["mean"]
        measured = [(a, int(m)) for a, m in zip(shares, held, strict=True) if a is not None]
        smooth = [((m * a + 1) / (m + 2), m) for a, m in measured]
        images = sum(a * (1 - a) / m for a, m in smooth) / len(smooth) ** 2
        networks = float(np.var(runs, ddof=1)) / len(runs) if len(runs) > 1 else 0.0
        few = one["groups"].get("few", {}).get("mean")
        found.append(Ranked(one["method"], one["accuracy"]["mean"], sqrt(images + networks), few))
    return sorted(found, key=lambda row: -row.accuracy)


def as_table(ranking: Sequence[Ranked], quick: RunConfig) -> Table:
    table = Table(title=f"{quick.name}: balanced accuracy in % on held-out training images")
    for header in ("", "method", "all", "standard error", "few"):
        table.add_column(header, justify="left" if header == "method" else "right")
    for place, row in enumerate(ranking, 1):
        few = "" if row.few is None else f"{100 * row.few:.1f}"
        cells = (f"{100 * row.accuracy:.1f}", f"{100 * row.error:.1f}", few)
        table.add_row(str(place), row.method, *cells)
    return table


def advice(ranking: Sequence[Ranked], file: str) -> list[str]:
    """What the ranking says, and the command to run next with the config ``file``.

    Methods are level with the first where the difference is below twice its standard error. All are
    measured on the same images, so this errs on the side of calling them level.
    """
    first, *others = ranking
    level = [
        row.method
        for row in others
        if first.accuracy - row.accuracy < 2 * sqrt(first.error**2 + row.error**2)
    ]
    said = f"{first.method} is first" + (
        f"; {', '.join(level)} cannot be told from it in this time" if level else ""
    )
    best = ",".join([first.method, *level[:1]])
    return [
        f"recommend: {said}. Short runs favour methods that start well.",
        f"next: the whole run with `{command('compare', file, '--methods', best)}`",
    ]
