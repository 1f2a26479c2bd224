"""`ltdd-ray search`: experts without the held-out images, then the trials, then what they found."""

import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ltdd_ray.cluster.session import ray_session, require_capacity
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.hardware import peak_memory
from ltdd_ray.config import RunConfig
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.workflows.pipeline import (
    open_run,
    record_failure,
    require_lasting_output,
    with_store,
)
from ltdd_ray.workflows.search.evaluator import search_data
from ltdd_ray.workflows.search.results import write_results
from ltdd_ray.workflows.search.samplers import sampler_of
from ltdd_ray.workflows.search.space import check_search, trial_updates
from ltdd_ray.workflows.search.trial import Report, TrialFolder
from ltdd_ray.workflows.search.tuner import run_trials
from ltdd_ray.workflows.stages import STAGES, RunContext


def search(config: RunConfig, console: Console | None = None) -> Path:
    """Search as ``config.search`` says, in the folder ``search`` of the run; returns the best config's file.

    Experts and trials that are there already are not repeated. Raises ``UserError`` before any work for a search that cannot be
    carried out, and for the reasons of :func:`~ltdd_ray.workflows.pipeline.run`.
    """
    check_search(config)
    sampler_of(config, 0)  # one that is not installed shall say so before the experts are trained
    require_lasting_output(config)
    console = console or Console()
    run, began = (
        _with_own_experts(open_run(config, search_data(config), TextOutput(console))),
        time.monotonic(),
    )
    compute, folder = config.compute, run.config.folder / "search"
    try:
        with ray_session(compute, run.data.bytes_in_memory):
            require_capacity(
                "num_workers",
                config.search.workers_per_trial,
                compute.cpus_per_worker,
                compute.gpus_per_worker,
            )
            if not STAGES["experts"].finished(run):
                STAGES["experts"].work(run)
            trials = _trials(run, folder / "trials")
        table = write_results(config, trials, folder)
    except UserError as error:
        record_failure(run, error)
        raise
    best, seconds = run.folder.path / "search" / "best.yaml", time.monotonic() - began
    run.folder.record_stage("search", seconds, peak_memory())
    console.print(table)
    run.output.stage("search", "finished", str(best), seconds)
    return best


def _with_own_experts(run: RunContext) -> RunContext:
    """The run with the store of the experts that did not learn from the held-out images."""
    store = run.config.search.store or str(run.config.folder / "search" / "experts")
    if "://" not in store:
        store = str(Path(store).resolve())
    return replace(run, config=with_store(run.config, store))


def _trials(run: RunContext, parent: Path) -> list[TrialFolder]:
    with run.output.progress(
        "search", run.config.search.trials * trial_updates(run.config), "updates"
    ) as progress:

        def show(trial: TrialFolder, report: Report) -> None:
            progress.update(
                trial.number,
                report.update,
                f"trial {trial.number} at {100 * report.objective:.1f} %",
            )

        return run_trials(
            run.config, run.data, parent, show, lambda line: run.output.say("search", line)
        )
