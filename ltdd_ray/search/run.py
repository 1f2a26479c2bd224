"""`ltdd-ray search`: experts without the held-out images, then the trials, then what they found."""

import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ltdd_ray.cluster.session import ray_session, require_capacity
from ltdd_ray.config import RunConfig
from ltdd_ray.errors import UserError
from ltdd_ray.hardware import peak_memory
from ltdd_ray.output import TextOutput
from ltdd_ray.pipeline import STAGES, Run, fail, open_run, require_lasting_output
from ltdd_ray.search.objective import search_data
from ltdd_ray.search.results import write_results
from ltdd_ray.search.samplers import sampler_of
from ltdd_ray.search.space import check_search
from ltdd_ray.search.trial import Report, TrialFolder
from ltdd_ray.search.tuner import run_trials


def search(config: RunConfig, console: Console | None = None) -> Path:
    """Search as ``config.search`` says, in the folder ``search`` of the run; returns the best config's file.

    Experts and trials that are there already are not repeated. Raises ``UserError`` before any work for a search that cannot be
    carried out, and for the reasons of :func:`~ltdd_ray.pipeline.run`.
    """
    check_search(config)
    sampler_of(config, 0)  # one that is not installed shall say so before the experts are trained
    require_lasting_output(config)
    console = console or Console()
    run = open_run(config, search_data(config), TextOutput(console))
    try:
        shown, folder = run.folder.path / "search", Path(run.config.output) / config.name / "search"
        folder.mkdir(exist_ok=True)
        store = config.search.store or str(folder / "experts")
        if "://" not in store:
            store = str(Path(store).resolve())
        experts = config.experts.model_copy(update={"store": store})
        run = replace(run, config=run.config.model_copy(update={"experts": experts}))
        began = time.monotonic()
        with ray_session(config.compute, run.data.bytes_in_memory):
            require_capacity(
                "num_workers", config.search.workers_per_trial, config.compute.cpus_per_worker, config.compute.gpus_per_worker
            )
            if not STAGES["experts"].finished(run):
                STAGES["experts"].work(run)
            trials = _trials(run, folder / "trials")
    except UserError as error:
        fail(run, error)
        raise
    table = write_results(config, trials, folder)
    run.folder.record_stage("search", time.monotonic() - began, peak_memory())
    console.print(table)
    run.output.stage("search", "finished", str(shown / "best.yaml"), time.monotonic() - began)
    return shown / "best.yaml"


def _trials(run: Run, parent: Path) -> list[TrialFolder]:
    updates = run.config.search.updates or run.config.distill.updates
    with run.output.progress("search", run.config.search.trials * updates, "updates") as progress:

        def show(trial: TrialFolder, report: Report) -> None:
            progress.update(trial.number, report.update, f"trial {trial.number} at {100 * report.objective:.1f} %")

        return run_trials(run.config, run.data, parent, show, lambda line: run.output.say("search", line))
