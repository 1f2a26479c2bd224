"""Training experts on Ray actors."""

from collections.abc import Callable, Sequence

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.experts.expert import EpochReport, rehearse_expert, run_expert


def train_experts(
    config: RunConfig,
    data: PreparedData,
    experts: Sequence[int],
    on_report: Callable[[EpochReport | str], None],
) -> int:
    """Train what the store lacks of each of ``experts``; the trajectories equal those of one process.

    ``on_report`` gets a report per epoch, and a sentence where actors are packed on GPUs. Returns the peak memory of the largest
    actor in bytes. Errors are those of :func:`~ltdd_ray.cluster.pool.run_tasks`.
    """
    tasks = [(expert,) for expert in experts]
    shared = (config, data)
    outcomes = run_tasks(
        run_expert,
        tasks,
        shared=shared,
        compute=config.compute,
        on_report=on_report,
        rehearse=rehearse_expert,
    )
    return max((outcome.peak_memory for outcome in outcomes), default=0)
