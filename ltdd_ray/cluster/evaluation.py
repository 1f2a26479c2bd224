"""Evaluating networks on Ray actors."""

from collections.abc import Callable, Sequence

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.evaluate.plan import NetworkRecord
from ltdd_ray.evaluate.train import EvaluationReport, evaluate_network, network_memory_probe


def evaluate_networks(
    config: RunConfig,
    data: PreparedData,
    records: Sequence[NetworkRecord],
    on_report: Callable[[EvaluationReport | str], None],
) -> int:
    """Train and measure the network of each record, and write the record's file.

    ``on_report`` receives a report per epoch, and a sentence if several actors share a GPU. Returns
    the peak memory of the largest actor in bytes. Errors: see
    :func:`~ltdd_ray.cluster.pool.run_tasks`.
    """
    by_task = {record.task: record for record in records}
    peak = 0
    for outcome in run_tasks(
        evaluate_network,
        list(by_task),
        shared=(config, data),
        compute=config.compute,
        on_report=on_report,
        memory_probe=network_memory_probe,
    ):
        by_task[outcome.task].write(outcome.result)
        peak = max(peak, outcome.peak_memory)
    return peak
