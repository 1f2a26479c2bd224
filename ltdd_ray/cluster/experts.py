"""Training experts on Ray actors."""

from collections.abc import Callable, Sequence

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.experts.expert import EpochReport, expert_memory_probe, run_expert


def train_experts(
    config: RunConfig,
    data: PreparedData,
    experts: Sequence[int],
    on_report: Callable[[EpochReport | str], None],
) -> int:
    """Train the stages of ``experts`` that the store lacks.

    The trajectories equal those of training in one process. ``on_report`` receives a report per
    epoch, and a sentence if several actors share a GPU. Returns the peak memory of the largest
    actor in bytes. Errors: see :func:`~ltdd_ray.cluster.pool.run_tasks`.
    """
    tasks = [(expert,) for expert in experts]
    shared = (config, data)
    outcomes = run_tasks(
        run_expert,
        tasks,
        shared=shared,
        compute=config.compute,
        on_report=on_report,
        memory_probe=expert_memory_probe,
    )
    return max((outcome.peak_memory for outcome in outcomes), default=0)
