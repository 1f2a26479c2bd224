"""``ltdd-ray search``: train experts without the held-out images, run the trials, write results."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ltdd_ray.cluster.image_cache import ray_writer
from ltdd_ray.cluster.session import require_capacity
from ltdd_ray.common.address import is_address
from ltdd_ray.common.files import resolved
from ltdd_ray.common.hardware import peak_memory
from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.config import RunConfig
from ltdd_ray.methods import name_note
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.workflows.pipeline import (
    enter_ray,
    open_run,
    recorded_end,
    require_folder,
    require_lasting_output,
    with_store,
)
from ltdd_ray.workflows.search.evaluator import search_data
from ltdd_ray.workflows.search.results import write_results
from ltdd_ray.workflows.search.samplers import make_sampler
from ltdd_ray.workflows.search.space import check_search, trial_updates
from ltdd_ray.workflows.search.trial import TrialFolder, TrialReport
from ltdd_ray.workflows.search.tuner import run_trials
from ltdd_ray.workflows.stages import STAGES, RunContext


def search(config: RunConfig, console: Console | None = None) -> Path:
    """Run the search of ``config.search`` and return the path of best.yaml.

    Files are written to the folder ``search`` of the run. Existing experts and finished trials are
    reused. Raises ``UserError`` before any work for a search that cannot finish, and for the
    reasons of :func:`~ltdd_ray.workflows.pipeline.run`.
    """
    check_search(config)
    make_sampler(config, 0)  # a sampler that is not installed fails here, before training
    require_lasting_output(config)
    require_folder(config, "search")
    console = console or PlainConsole()
    data = search_data(config, ray_writer(config.compute))
    run, began = _with_own_experts(open_run(config, data, TextOutput(console))), time.monotonic()
    with run.folder.locked():
        return _search(config, run, console, began)


def _search(config: RunConfig, run: RunContext, console: Console, began: float) -> Path:
    compute, folder = config.compute, run.config.folder / "search"
    for note in run.data.notes:
        run.output.say("data", f"note: {note}")
    if note := name_note(config):
        run.output.say("config", f"note: {note}")
    with ExitStack() as session, recorded_end(run):
        enter_ray(run, session)
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
    best, seconds = run.folder.path / "search" / "best.yaml", time.monotonic() - began
    run.folder.record_stage("search", seconds, peak_memory())
    console.print(table)
    run.output.stage("search", "finished", str(best), seconds)
    return best


def _with_own_experts(run: RunContext) -> RunContext:
    """``run`` with a store for experts that are trained without the held-out images."""
    store = run.config.search.store or str(run.config.folder / "search" / "experts")
    if not is_address(store):
        store = str(resolved(Path(store)))
    return replace(run, config=with_store(run.config, store))


def _trials(run: RunContext, parent: Path) -> list[TrialFolder]:
    total = run.config.search.trials * trial_updates(run.config)
    with run.output.progress("search", total, "updates") as progress:

        def show(trial: TrialFolder, report: TrialReport) -> None:
            note = f"trial {trial.number}, score {100 * report.score:.1f} %"
            progress.update(trial.number, report.update, note)

        return run_trials(
            run.config, run.data, parent, show, lambda line: run.output.say("search", line)
        )
