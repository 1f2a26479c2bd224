"""``ltdd-ray recommend``: short runs of a few methods, ranked on held-out training images.

The images are held out and the sets are scored as in ``ltdd-ray search``. The test images are not
used. Files, below the folder of the run::

    recommend/experts/             trajectories, shared by the runs of every time
    recommend/10min.json           what the short runs do, for a later session to go on with
    recommend/10min/METHOD/        the run of a method, and the margins of its networks
    recommend/10min/best.yaml      the whole run of the first method
"""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from rich.console import Console

from ltdd_ray.cluster.image_cache import ray_writer
from ltdd_ray.cluster.session import ray_session
from ltdd_ray.common.errors import NonFiniteLossError, UserError
from ltdd_ray.common.files import write_atomic
from ltdd_ray.common.shell import command
from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.common.units import duration
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.evaluate.plan import distilled_file
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.workflows.compare.plan import expert_trainers, plan_comparison
from ltdd_ray.workflows.compare.ranking import Ranked, as_table, config_to_run, rank, verdict
from ltdd_ray.workflows.compare.scoring import Configs, all_margins
from ltdd_ray.workflows.compare.short_runs import (
    SECONDS_TO_START,
    Clock,
    Plan,
    estimated_costs,
    fitting_candidates,
    new_plan,
    require_small_sets,
    scoring_epochs,
    share_of_updates,
    short_base,
    shortened,
)
from ltdd_ray.workflows.pipeline import require_folder, require_lasting_output, run_stages
from ltdd_ray.workflows.search.evaluator import search_data


def recommend(
    config: RunConfig,
    minutes: float,
    methods: Sequence[str] | None = None,
    console: Console | None = None,
) -> list[Ranked]:
    """Run ``methods`` for about ``minutes``, print a ranking, and write best.yaml.

    Without ``methods`` those of :data:`~ltdd_ray.workflows.compare.short_runs.CANDIDATES` are run
    that fit the config and the images, and the config's own. An interrupted session is continued,
    with new ``minutes``. Raises ``UserError`` before any work for an unknown method, for too short
    a time, where no class is large enough to hold images out, and for the reasons of
    :func:`~ltdd_ray.workflows.pipeline.run`.
    """
    if not (isfinite(minutes) and minutes > 0):
        raise UserError(f"recommend: --minutes {minutes:g} is no time; give a number above 0")
    clock, console = Clock.of(minutes), console or PlainConsole()
    require_lasting_output(config)
    require_folder(config, "recommend")
    base = short_base(config, minutes)
    if methods is not None:
        require_small_sets(base, methods)
    data = search_data(config, ray_writer(config.compute))
    with ExitStack() as ray:
        session = _Session(base, data, clock, TextOutput(console), ray)
        plan = _with_experts(session, _planned(session, minutes, methods))
        ranking = _ranked(session, plan, _make_sets(session, plan))
    best = base.folder / "best.yaml"
    write_atomic(best, config_to_run(config, ranking))
    console.print(as_table(ranking, base.name))
    session.say(verdict(ranking))
    session.say(f"took {duration(60 * minutes - clock.left)} of {minutes:g} min")
    session.say(f"next: `{command('run', best)}`, the whole run of {ranking[0].method}")
    return ranking


@dataclass(frozen=True)
class _Session:
    base: RunConfig
    data: PreparedData
    clock: Clock
    output: TextOutput
    ray: ExitStack

    @property
    def plan_file(self) -> Path:
        return self.base.folder.with_name(f"{self.base.folder.name}.json")

    def say(self, sentence: str) -> None:
        self.output.say("recommend", sentence)

    def stage(self, config: RunConfig, name: str) -> float:
        """Finish a stage of ``config``; returns the seconds it took."""
        began = time.monotonic()
        run_stages(config, self.data, (name,), self.output, self.ray)
        return time.monotonic() - began


def _planned(session: _Session, minutes: float, methods: Sequence[str] | None) -> Plan:
    """The plan of an earlier session, or a new one."""
    base, file = session.base, session.plan_file
    wanted = (
        fitting_candidates(base, session.data.train.image_shape, session.say)
        if methods is None
        else tuple(dict.fromkeys(methods))
    )
    if (plan := Plan.read(file)) is None:
        session.say(f"timing {', '.join(wanted)}")
        costs = estimated_costs(base, wanted, session.data)
        plan = new_plan(base, costs, minutes, session.clock.left)
        plan.write(file)
    if plan.methods != wanted:
        raise UserError(
            f"{file}: ranks {','.join(plan.methods)}, not {','.join(wanted)}; name the same "
            "methods, other --minutes, or another run with --set name=..."
        )
    return plan


def _with_experts(session: _Session, plan: Plan) -> Plan:
    """Train the experts of every store. What they took decides the updates of the methods."""
    base, clock = session.base, session.clock
    whole = replace(plan, share=None)  # as in the session that trains them
    configs = plan_comparison(shortened(base, whole), plan.methods)
    for own in expert_trainers(configs).values():
        count, estimated = _whole_experts(session, plan, own.store_uri)
        session.say(f"{own.experts.count} of {count} experts")
        shared = own.store_uri == base.store_uri
        name = base.name if shared else f"{base.name}/{Path(own.store_uri).name}"
        own = own.model_copy(update={"name": name})
        missing = len(missing_experts(own, session.data.train))
        clock.learn(estimated * missing / count, session.stage(own, "experts"))
    if plan.share is None:
        plan = replace(plan, share=share_of_updates(plan, clock))
        plan.write(session.plan_file)
    session.say(f"{100 * plan.decided_share:.0f} % of the updates, {duration(clock.left)} left")
    return plan


def _whole_experts(session: _Session, plan: Plan, store_uri: str) -> tuple[int, float]:
    """The number of experts of whole runs in a store, and their estimated seconds."""
    whole = expert_trainers(plan_comparison(session.base, plan.methods))
    method, config = next((m, c) for m, c in whole.items() if c.store_uri == store_uri)
    return config.experts.count, plan.costs[method]["experts"]


def _make_sets(session: _Session, plan: Plan) -> Configs:
    """Distil with one method after the other; the configs of those for which time was left.

    A method that seems to take too long waits for the others. They may take less than estimated.
    """
    clock, made = session.clock, {}
    scoring = 0.0  # of the sets so far, without the clock's factor
    configs = plan_comparison(shortened(session.base, plan), plan.methods)
    waiting, has_waited = deque(configs), set()
    while waiting:
        method = waiting.popleft()
        config = configs[method]
        distil, score = (
            plan.decided_share * plan.costs[method].get(stage, 0.0)
            for stage in ("distill", "evaluate")
        )
        if config.distils and not distilled_file(config.folder).exists():
            needed = 2 * SECONDS_TO_START + clock.factor * (distil + scoring + score)
            if made and needed > clock.left:
                if method in has_waited:
                    session.say(f"{method} is left out: no time is left for it")
                else:
                    has_waited.add(method)
                    waiting.append(method)
                continue
            session.say(f"{method}, {duration(clock.left)} left")
            try:
                clock.learn(distil, session.stage(config, "distill"))
            except NonFiniteLossError as error:
                session.say(f"{method} is left out: {error}")
                continue
        scoring += score
        made[method] = config
    if not made:
        raise UserError("recommend: every method diverged; lower their rates, or name others")
    return made


def _ranked(session: _Session, plan: Plan, made: Configs) -> list[Ranked]:
    """Train networks on the sets and rank the methods by their margins."""
    base, data = session.base, session.data
    if plan.epochs is None:
        plan = replace(plan, epochs=scoring_epochs(plan, made, base.evaluate.epochs, session.clock))
        plan.write(session.plan_file)
    session.say(f"{base.evaluate.networks} networks of {plan.epochs} epochs on each set")
    configs = {
        method: config.model_copy(
            update={"evaluate": config.evaluate.model_copy(update={"epochs": plan.epochs})}
        )
        for method, config in made.items()
    }
    session.ray.enter_context(ray_session(base.compute, data.bytes_in_memory))
    found = all_margins(configs, data, session.output)
    held, counts = data.evaluation.labels, data.train.class_counts
    return rank(found, held, counts, base.search.trend_weight)
