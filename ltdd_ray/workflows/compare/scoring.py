"""Networks on the sets of several methods, measured on held-out images, on Ray actors.

The margins of each network are kept in the folder of its method, so nothing is measured twice.
N held-out images, R networks a method.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.common.files import write_atomic
from ltdd_ray.config import RunConfig
from ltdd_ray.config.identity import network_fingerprint
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.evaluate.held_out import HeldOutEvaluator
from ltdd_ray.evaluate.plan import distilled_file, hash_of_set
from ltdd_ray.evaluate.sets import training_set
from ltdd_ray.evaluate.train import network_memory_probe
from ltdd_ray.runs.output import Output
from ltdd_ray.workflows.pipeline import absolute

Configs = Mapping[str, RunConfig]  # by method
Task = tuple[str, int]  # a method and the number of a network


def all_margins(configs: Configs, data: PreparedData, output: Output) -> dict[str, np.ndarray]:
    """Margins (R, N) on ``data.evaluation`` by method.

    ``evaluate`` of each config has the networks and their epochs. Ray must have been started.
    """
    configs = {method: absolute(config) for method, config in configs.items()}
    compute = next(iter(configs.values())).compute
    files = {
        (method, network): _margins_file(config, data, network)
        for method, config in configs.items()
        for network in range(config.evaluate.networks)
    }
    missing = [task for task, file in files.items() if not file.exists()]
    total = sum(configs[method].evaluate.epochs for method, _ in missing)
    with output.progress("score", total, "epochs") as progress:

        def show(report: tuple[str, int, int] | str) -> None:
            if isinstance(report, str):
                output.say("score", report)
                return
            method, network, epoch = report
            progress.update((method, network), epoch, f"network {network} of {method}")

        for outcome in run_tasks(
            network_margins,
            missing,
            shared=(configs, data),
            compute=compute,
            on_report=show,
            memory_probe=_memory_probe,
        ):
            _write(files[outcome.task], outcome.result)
    found: dict[str, list[np.ndarray]] = {method: [] for method in configs}
    for (method, _), file in files.items():
        found[method].append(np.load(file, allow_pickle=False))
    return {method: np.stack(networks) for method, networks in found.items()}


def network_margins(
    configs: Configs,
    data: PreparedData,
    method: str,
    network: int,
    report: Callable[[tuple[str, int, int]], None],
) -> np.ndarray:
    """Margins (N,) of a network trained on the set of ``method``."""
    config = configs[method]
    evaluator = HeldOutEvaluator(
        config,
        data,
        data.evaluation,
        networks=config.evaluate.networks,
        epochs=config.evaluate.epochs,
        trend_weight=config.search.trend_weight,
        purpose="recommend-network",
    )
    given = training_set(config, data, config.evaluate.sets[0], network)
    return evaluator.margins_on(given, network, lambda epoch: report((method, network, epoch)))


def _memory_probe(configs: Configs, data: PreparedData, tasks: Sequence[Task]) -> None:
    for method in sorted({method for method, _ in tasks}):
        config = configs[method]
        network_memory_probe(config, data, [(config.evaluate.sets[0], config.model.label, 0)])


def _margins_file(config: RunConfig, data: PreparedData, network: int) -> Path:
    """Named by what decides the margins, so that other sets and settings have other files."""
    made_from = hash_of_set(distilled_file(config.folder)) if config.distils else ""
    on = data.train.fingerprint, data.evaluation.fingerprint, made_from
    identity = network_fingerprint(config, config.model, *on)
    return config.folder / "margins" / f"{identity}-{network}.npy"


def _write(file: Path, margins: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, margins)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, content.getvalue())
