"""Run several methods of a comparison at once.

Each method is an ordinary run. Its driver is a Ray actor that reserves no CPU.
"""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.cluster.session import alive_nodes, capacity
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.config import ComputeConfig, RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.workflows.compare.plan import expert_trainers
from ltdd_ray.workflows.pipeline import run_stages
from ltdd_ray.workflows.stages import STAGES

SECONDS_BETWEEN_CHECKS = 1.0
LINE_WIDTH = 120

MethodConfigs = dict[str, RunConfig]


def require_room(compute: ComputeConfig) -> None:
    """Raise ``UserError`` where the cluster is too small for ``compute.methods_at_once`` methods.

    Each method needs its own actors and workers. Methods cannot take turns, because Ray Train gives
    up on workers that do not start in time.
    """
    at_once, actors, workers = compute.methods_at_once, compute.num_actors, compute.num_workers
    if compute.gpus_per_actor == "auto":
        raise UserError(
            "compute.gpus_per_actor is auto, which fills the cluster with one method, but "
            f"compute.methods_at_once is {at_once}; give gpus_per_actor a number, or set "
            "methods_at_once to 1"
        )
    nodes = alive_nodes()
    of_actors = (
        capacity(nodes, compute.cpus_per_actor, compute.gpus_per_actor, at_once * actors) // actors
    )
    of_workers = (
        capacity(nodes, compute.cpus_per_worker, compute.gpus_per_worker, at_once * workers)
        // workers
    )
    room = min(of_actors, of_workers)
    if room < at_once:
        raise UserError(
            f"compute.methods_at_once: the cluster has room for {room}, not for {at_once} methods "
            f"with {actors} actors and {workers} workers each; "
            f"--set compute.methods_at_once={max(room, 1)} or lower num_actors and num_workers"
        )


def run_at_once(
    configs: MethodConfigs, data: PreparedData, compute: ComputeConfig, say: Callable[[str], None]
) -> Iterator[str]:
    """Run ``compute.methods_at_once`` methods at a time and yield the name of each as it ends.

    ``say`` gets every line that a method prints, with the name of the method in front. A method
    whose driver is lost starts again and keeps its finished stages.
    """
    drivers = {"num_actors": compute.methods_at_once, "cpus_per_actor": 0.0, "gpus_per_actor": 0.0}
    compute = compute.model_copy(update=drivers)
    # Those that train experts first: a method that waits for them takes a place.
    trainers = expert_trainers(configs)
    methods = [(method,) for method in dict.fromkeys([*trainers, *configs])]
    for outcome in run_tasks(
        _run_method, methods, shared=(configs, data), compute=compute, on_report=say
    ):
        yield outcome.task[0]


def _run_method(
    configs: MethodConfigs, data: PreparedData, method: str, report: Callable[[str], None]
) -> None:
    _await_shared_experts(configs, data, method)
    console = PlainConsole(file=_Lines(lambda line: report(f"{method}: {line}")), width=LINE_WIDTH)
    with ExitStack() as session:
        run_stages(configs[method], data, tuple(STAGES), TextOutput(console), session)


def _await_shared_experts(configs: MethodConfigs, data: PreparedData, method: str) -> None:
    """Wait until the experts of ``method`` exist, if another method trains them.

    That method trains at least as many, and was started before this one, so the wait ends.
    """
    config = configs[method]
    if not config.needs_experts or method in expert_trainers(configs):
        return
    while missing_experts(config, data.train):
        time.sleep(SECONDS_BETWEEN_CHECKS)


class _Lines(io.StringIO):
    """A file that passes each written line to ``report``. Consoles write whole lines."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__()
        self._report = report

    def write(self, text: str, /) -> int:
        for line in text.splitlines():
            self._report(line)
        return len(text)
