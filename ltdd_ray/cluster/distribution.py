"""Distribution matching on a Ray actor."""

from collections.abc import Callable

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.distribution.runner import run_distribution
from ltdd_ray.distill.metrics_log import UpdateReport
from ltdd_ray.evaluate.held_out import make_checks
from ltdd_ray.runs.remote import mirrored_distillation


def _run_with_checks(
    config: RunConfig, data: PreparedData, on_report: Callable[[UpdateReport | str], None]
) -> DistilledSet:
    with mirrored_distillation(config) as push:
        return run_distribution(
            config, data, on_report, lambda done: make_checks(config, data, done, on_report), push
        )


def match_on_actor(
    config: RunConfig, data: PreparedData, on_report: Callable[[UpdateReport | str], None]
) -> tuple[DistilledSet, int]:
    """Run :func:`~ltdd_ray.distill.distribution.runner.run_distribution` as one task.

    If the actor dies, another one resumes from the last checkpoint. Returns the set and the actor's
    peak memory in bytes. Errors: see :func:`~ltdd_ray.cluster.pool.run_tasks`.
    """
    (outcome,) = run_tasks(
        _run_with_checks, [()], shared=(config, data), compute=config.compute, on_report=on_report
    )
    return outcome.result, outcome.peak_memory
