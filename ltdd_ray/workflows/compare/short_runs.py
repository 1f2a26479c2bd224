"""The short runs of ``ltdd-ray recommend``: their configs, and how much of a run fits into a time.

Times are estimates (:mod:`ltdd_ray.workflows.cost`). The plan is made in three steps: the number of
experts first, the updates when the experts are trained, the epochs of the scoring networks when the
sets are made. Each step knows by how much the estimates were wrong before it.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text, write_json
from ltdd_ray.common.units import duration
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import parse_config
from ltdd_ray.config.nested import merge
from ltdd_ray.data.load import DataSplits
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.formation import require_cells
from ltdd_ray.evaluate.full_data import FULL_DATA
from ltdd_ray.methods import METHODS, method_config
from ltdd_ray.workflows.compare.plan import expert_trainers, plan_comparison
from ltdd_ray.workflows.cost import estimate_cost

# In the order in which they run, so those that need no updates are ranked in any case.
CANDIDATES = ("random_soft", "random_soft_mosaic", "idm", "tgdd_mosaic", "ltdd_mosaic", "ltdd")
NETWORKS = 2
LARGEST_EXPERT_SHARE = 1 / 3  # of the time
SMALLEST_SHARE = 0.05  # of a whole run, below which a short run says nothing
SECONDS_TO_START = 10.0  # of a stage on Ray, which estimates leave out
LEAST_TIMED = 3.0  # seconds; less work does not tell how wrong the estimates are

Costs = Mapping[str, Mapping[str, float]]  # by method: estimated seconds of each stage, whole run


@dataclass
class Clock:
    """The time of a session, and what work took in multiples of its estimate."""

    end: float
    factor: float = 1.0

    @classmethod
    def of(cls, minutes: float) -> "Clock":
        return cls(time.monotonic() + 60 * minutes)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def learn(self, estimated: float, taken: float) -> None:
        """Work of ``estimated`` seconds, with the start of its stage, took ``taken``."""
        if estimated >= LEAST_TIMED:
            self.factor = max(taken - SECONDS_TO_START, 0.1 * estimated) / estimated


@dataclass(frozen=True)
class Plan:
    """What the short runs of ``methods`` do. None where that is not decided yet.

    ``share`` is that of the updates of a whole run, ``epochs`` those of a scoring network.
    """

    methods: tuple[str, ...]
    costs: Costs
    experts: int
    share: float | None = None
    epochs: int | None = None

    @classmethod
    def read(cls, file: Path) -> "Plan | None":
        """The plan of an earlier session. Raises ``UserError`` for a file that holds none."""
        if not file.exists():
            return None
        try:
            tree = json.loads(read_text(file))
            return cls(**{**tree, "methods": tuple(tree["methods"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError(
                f"{file}: not readable as a plan; delete it with {file.with_suffix('')}/ "
                "and run again"
            ) from None

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(self))

    @property
    def experts_seconds(self) -> float:
        """Estimated seconds of all experts of whole runs; each is counted once."""
        return sum(seconds.get("experts", 0.0) for seconds in self.costs.values())

    @property
    def decided_share(self) -> float:
        assert self.share is not None
        return self.share

    def seconds(self, methods: Iterable[str]) -> float:
        """Estimated seconds of whole runs of ``methods``, without experts."""
        stages = ("distill", "evaluate")
        return sum(self.costs[method].get(stage, 0.0) for method in methods for stage in stages)

    def distilling(self, methods: Iterable[str]) -> int:
        """The number of ``methods`` that distil."""
        return sum("distill" in self.costs[method] for method in methods)


def short_base(config: RunConfig, minutes: float) -> RunConfig:
    """``config`` in a folder for runs of ``minutes``, with few networks and without extra sets.

    Experts of its own, shared by all times: those of ``config`` have seen the held-out images.
    """
    folder = f"{config.name}/recommend"
    changes = {
        "name": f"{folder}/{minutes:g}min",
        "data": {"validation_fraction": 0.0},
        "experts": {"store": str(Path(config.output) / folder / "experts")},
        "distill": {"checks": {"every": None}, "keep": "last"},
        "evaluate": {"networks": NETWORKS, "models": [], "sets": ["distilled"]},
    }
    return parse_config(merge(config.model_dump(mode="json"), changes), f"{config.name}, recommend")


def require_small_sets(base: RunConfig, methods: Sequence[str]) -> None:
    """Raise ``UserError`` for an unknown method, and for one that trains on all images."""
    if not methods:
        raise UserError(
            f"recommend: the list of methods is empty; name some, such as {', '.join(CANDIDATES)}"
        )
    for method in methods:
        if method_config(base, method).evaluate.sets[0] in FULL_DATA:
            raise UserError(
                f"recommend: {method} makes no small set, it trains on all images; "
                "leave it out of --methods"
            )


def fitting_candidates(
    base: RunConfig, shape: tuple[int, int, int], say: Callable[[str], None]
) -> tuple[str, ...]:
    """Those of :data:`CANDIDATES` that ``base`` and images of ``shape`` (K, H, W) allow.

    The method of ``base`` is one more, if it makes a small set.
    """
    own = [base.method] if base.method in METHODS else []  # other names are of the set only
    found = []
    for method in dict.fromkeys((*CANDIDATES, *own)):
        try:
            config = method_config(base, method)
            require_cells(shape, config.distill.pictures_per_side)
            if config.evaluate.sets[0] not in FULL_DATA:
                found.append(method)
        except UserError as error:
            say(f"{method} is left out: {error}")
    return tuple(found)


def estimated_costs(base: RunConfig, methods: Sequence[str], data: PreparedData) -> Costs:
    """The costs of whole runs.

    Methods share the work of experts, and of networks on as many pictures. The shortest of its
    timings counts, as other programs make a timing only longer. Experts count for the method that
    trains them.
    """
    configs = plan_comparison(base, methods)
    trainers = expert_trainers(configs)
    splits = DataSplits(data.train, None, data.evaluation)
    costs = {m: dict(estimate_cost(config, splits).seconds) for m, config in configs.items()}

    def work(method: str, stage: str) -> str | int:
        config = configs[method]
        return config.store_uri if stage == "experts" else config.distill.pictures_per_side

    def shortest(method: str, stage: str) -> float:
        own = work(method, stage)
        return min(
            seconds[stage]
            for other, seconds in costs.items()
            if stage in seconds and work(other, stage) == own
        )

    return {
        method: {
            stage: value if stage == "distill" else shortest(method, stage)
            for stage, value in seconds.items()
            if stage != "experts" or method in trainers
        }
        for method, seconds in costs.items()
    }


def new_plan(base: RunConfig, costs: Costs, minutes: float, left: float) -> Plan:
    """A plan with as many experts as take a third of the ``left`` seconds, at least one.

    Raises ``UserError`` where the shortest useful runs do not fit.
    """
    plan = Plan(tuple(costs), costs, base.experts.count)
    one = plan.experts_seconds / base.experts.count
    starts = SECONDS_TO_START * (2 + plan.distilling(costs))
    needed = starts + one + SMALLEST_SHARE * plan.seconds(costs)
    if needed > left:
        raise UserError(
            f"recommend: {minutes:g} minutes are too short for {len(costs)} methods, which take "
            f"about {duration(needed + 60 * minutes - left)} at least; raise --minutes, or name "
            "fewer methods with --methods"
        )
    if plan.experts_seconds <= LARGEST_EXPERT_SHARE * left:
        return plan
    return replace(plan, experts=max(1, int(LARGEST_EXPERT_SHARE * left / one)))


def share_of_updates(plan: Plan, clock: Clock) -> float:
    """The share of all updates and of all epochs of scoring that fits into what is left."""
    starts = SECONDS_TO_START * (1 + plan.distilling(plan.methods))
    fits = (clock.left - starts) / (clock.factor * plan.seconds(plan.methods))
    return min(1.0, max(SMALLEST_SHARE, fits))


def scoring_epochs(plan: Plan, made: Iterable[str], whole: int, clock: Clock) -> int:
    """The epochs of scoring the sets of ``made`` that fit into what is left, of ``whole``.

    They are not more than was planned with the updates.
    """
    work = clock.factor * sum(plan.costs[method]["evaluate"] for method in made)
    fits = (clock.left - SECONDS_TO_START) / work
    return max(1, round(whole * min(plan.decided_share, max(SMALLEST_SHARE, fits))))


def shortened(base: RunConfig, plan: Plan) -> RunConfig:
    """``base`` with the experts and the updates of ``plan``."""
    distill, share = base.distill, plan.share

    def cut(number: int) -> int:
        return number if share is None else max(1, round(share * number))

    changes: dict[str, Any] = {
        "experts": {"count": plan.experts},
        "distill": {
            "updates": cut(distill.updates),
            "distribution": {"updates": cut(distill.distribution.updates)},
        },
    }
    return parse_config(merge(base.model_dump(mode="json"), changes), base.name)
