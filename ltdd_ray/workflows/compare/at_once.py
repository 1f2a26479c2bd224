"""Methods of a comparison beside each other: each is an ordinary run, driven by an actor of its own that holds no CPU."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from rich.console import Console

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.cluster.session import alive_nodes, capacity
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ComputeConfig, RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.workflows.pipeline import STAGES, run_stages

SECONDS_BETWEEN_LOOKS = 1.0
LINE_WIDTH = 120

Members = dict[str, RunConfig]


def require_room(compute: ComputeConfig) -> None:
    """Raise ``UserError`` where the cluster cannot give every method that runs at once its own actors and workers.

    They shall not wait for each other's: Ray Train gives up on workers that do not come.
    """
    at_once, actors, workers = compute.methods_at_once, compute.num_actors, compute.num_workers
    if compute.gpus_per_actor == "auto":
        raise UserError(
            "compute.gpus_per_actor auto fills the cluster with one method; give a number where compute.methods_at_once is "
            f"{at_once}, or set that to 1"
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
            f"compute.methods_at_once: {at_once} methods with {actors} actors and {workers} workers each do not fit the cluster, "
            f"which has room for {room}; --set compute.methods_at_once={max(room, 1)} or lower num_actors and num_workers"
        )


def run_at_once(
    members: Members, data: PreparedData, compute: ComputeConfig, say: Callable[[str], None]
) -> Iterator[str]:
    """Run ``compute.methods_at_once`` of ``members`` at a time and yield the name of each as it ends.

    ``say`` hears every line of each, with its name. A method whose driver is lost starts again from what it finished.
    """
    drivers = {"num_actors": compute.methods_at_once, "cpus_per_actor": 0.0, "gpus_per_actor": 0.0}
    compute = compute.model_copy(update=drivers)
    methods = [(method,) for method in members]
    for outcome in run_tasks(
        _run_member, methods, shared=(members, data), compute=compute, on_report=say
    ):
        yield outcome.task[0]


def _run_member(
    members: Members, data: PreparedData, method: str, report: Callable[[str], None]
) -> None:
    """One method from first to last, within the cluster."""
    _await_shared_experts(members, data, method)
    console = Console(file=_Lines(lambda line: report(f"{method}: {line}")), width=LINE_WIDTH)
    with ExitStack() as session:
        run_stages(members[method], data, tuple(STAGES), TextOutput(console), session)


def _await_shared_experts(members: Members, data: PreparedData, method: str) -> None:
    """Return when the first method with this one's experts has trained them. It was started earlier, so it will."""
    config = members[method]
    if not config.needs_experts:
        return
    first = next(
        name
        for name, other in members.items()
        if other.needs_experts and other.store_uri == config.store_uri
    )
    while method != first and missing_experts(config, data.train):
        time.sleep(SECONDS_BETWEEN_LOOKS)


class _Lines(io.StringIO):
    """A file that hands on what is written to it, line by line; consoles write whole ones."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__()
        self._report = report

    def write(self, text: str, /) -> int:
        for line in text.splitlines():
            self._report(line)
        return len(text)
