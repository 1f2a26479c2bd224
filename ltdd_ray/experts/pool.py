"""Training experts on Ray actors."""

from collections.abc import Callable, Sequence

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.experts.run import EpochReport, run_expert


def train_experts(config: RunConfig, data: PreparedData, experts: Sequence[int], on_epoch: Callable[[EpochReport], None]) -> int:
    """Train what the store lacks of each of ``experts``; the trajectories equal those of one process.

    Returns the peak memory of the largest actor in bytes. Errors are those of :func:`~ltdd_ray.cluster.pool.run_tasks`.
    """
    tasks = [(expert,) for expert in experts]
    outcomes = run_tasks(run_expert, tasks, shared=(config, data), compute=config.compute, on_report=on_epoch)
    return max((outcome.peak_memory for outcome in outcomes), default=0)
