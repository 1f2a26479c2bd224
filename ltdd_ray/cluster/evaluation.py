"""Evaluating networks on Ray actors."""

from collections.abc import Callable, Sequence
from typing import Any

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.evaluate.plan import NetworkRecord
from ltdd_ray.evaluate.train import EvaluationReport, evaluate_network, network_memory_probe
from ltdd_ray.runs.remote import bring_set


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
        _evaluate_brought,
        list(by_task),
        shared=(config, data),
        compute=config.compute,
        on_report=on_report,
        memory_probe=_probe_brought,
    ):
        by_task[outcome.task].write(outcome.result)
        peak = max(peak, outcome.peak_memory)
    return peak


def _evaluate_brought(config: RunConfig, *arguments: Any) -> Any:
    bring_set(config)
    return evaluate_network(config, *arguments)


def _probe_brought(config: RunConfig, *arguments: Any) -> None:
    bring_set(config)
    network_memory_probe(config, *arguments)
