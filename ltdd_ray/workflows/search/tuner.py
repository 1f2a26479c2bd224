"""Run the trials with Ray Tune. ASHA stops trials whose scores fall behind.

The plain files in the trial folders are the only state that is kept. Tune pickles its own state to
a temporary folder, which is never read. A search that was killed starts a new Tuner for the trials
that have no outcome yet.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray import tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ltdd_ray.cluster.session import alive_nodes, capacity
from ltdd_ray.cluster.trajectory import worker_settings
from ltdd_ray.common.device import prepare_process
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.workflows.search.samplers import make_sampler
from ltdd_ray.workflows.search.space import (
    Values,
    different_trials,
    draw,
    in_space,
    own_values,
    trial_updates,
)
from ltdd_ray.workflows.search.trial import TrialFolder, TrialReport, run_trial, trial_identity

OnReport = Callable[[TrialFolder, TrialReport], None]
# Enough to find the last untried one of 200 combinations of choices. A range may hold fewer values
# than there are trials.
DRAWS = 2000


def run_trials(
    config: RunConfig,
    data: PreparedData,
    parent: Path,
    on_report: OnReport,
    say: Callable[[str], None],
) -> list[TrialFolder]:
    """Run every trial of the search until it has an outcome; returns all trials by number.

    ``parent`` holds a folder per trial and must be visible to all nodes. ``say`` gets a sentence
    whenever a trial ends. Raises ``UserError`` where a trial failed more often than
    ``compute.max_failures``. Finished trials are kept.
    """
    plan = TrialPlan(config, data, parent, on_report, say)
    if plan.remaining:
        with TemporaryDirectory() as scratch:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(_trial, job={"config": config, "data": ray.put(data)}),
                    _resources(config),
                ),
                tune_config=tune.TuneConfig(
                    num_samples=plan.remaining,
                    max_concurrent_trials=_at_once(config),
                    search_alg=plan,
                    scheduler=trial_scheduler(config, plan.ended),
                    # A new process would have to import torch again.
                    reuse_actors=config.search.workers_per_trial == 1,
                ),
                run_config=tune.RunConfig(
                    name="search",
                    storage_path=scratch,
                    failure_config=tune.FailureConfig(max_failures=config.compute.max_failures),
                    verbose=0,
                ),
            )
            errors = tuner.fit().errors
        if errors:
            first = str(errors[0]).strip().splitlines()[-1]
            raise UserError(
                f"{len(errors)} trials of the search failed, the first with: {first}; "
                "run the same command to resume from the finished trials"
            ) from errors[0]
    return TrialFolder.known(parent, config, data)[: config.search.trials]


class TrialPlan(Searcher):
    """Tune's source of trials: unfinished ones of an earlier session first, then new ones.

    It also writes the outcome of every trial.
    """

    def __init__(
        self,
        config: RunConfig,
        data: PreparedData,
        parent: Path,
        on_report: OnReport,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(metric="score", mode="max")
        self._config, self._data, self._parent = config, data, parent
        self._on_report, self._say = on_report, say
        earlier = TrialFolder.of_keys(parent, config, data)
        inside = [folder for folder in earlier if in_space(config.search, folder.values)]
        if outside := len(earlier) - len(inside):
            say(f"trials left out, as their values are outside search.space: {outside}")
        known = inside[: config.search.trials]
        self.ended = [folder for folder in known if folder.outcome]
        self._begun = [folder for folder in known if not folder.outcome]
        # Trials outside keep their numbers, so that a later edit may take them in again.
        taken = {folder.number for folder in earlier}
        free = sorted(set(range(len(earlier) + config.search.trials)) - taken)
        self._new = free[: different_trials(config.search) - len(known)]
        if not self.remaining:
            remedy = (
                "raise search.trials for more, as a wider search.space keeps these"
                if len(known) == config.search.trials
                else "they are all combinations of search.space, so add choices"
            )
            say(f"no trial to run, {len(known)} are known; {remedy}")
        self._tried = {folder.path.name for folder in inside}
        self._running: dict[str, TrialFolder] = {}
        self._sampler = make_sampler(config, len(known))
        for folder in self.ended:
            if outcome := folder.outcome:
                self._sampler.tell(folder.values, outcome.score)
                self._on_report(folder, TrialReport(trial_updates(config), outcome.score))

    @property
    def remaining(self) -> int:
        return len(self._begun) + len(self._new)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        if self._begun:
            folder = self._begun.pop(0)
        elif (new := self._next()) is not None:
            folder = new
        else:
            return Searcher.FINISHED
        self._running[trial_id] = folder
        return {"folder": folder}

    def _next(self) -> TrialFolder | None:
        """A trial with new values; None where the choices are used up."""
        if not self._new:
            return None
        number = self._new.pop(0)
        for values in self._proposals(number):
            identity = trial_identity(self._config, self._data, values)
            if identity not in self._tried:
                self._tried.add(identity)
                return TrialFolder.create(self._parent, self._config, self._data, number, values)
        self._new.clear()
        return None

    def _proposals(self, number: int) -> Iterator[Values]:
        """Values for trial ``number``: the config's own, the sampler's, then random ones.

        With the config's own values among the trials, the result is never worse than the config.
        """
        if own := own_values(self._config):
            yield own
        yield self._sampler.ask(number)
        for attempt in range(1, DRAWS):
            yield draw(self._config.search, self._config.seed, number, attempt)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._on_report(self._running[trial_id], _report(result))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        folder = self._running.pop(trial_id)
        if error or not result:
            self._say(f"trial {folder.number}: failed")
            return
        last, updates = _report(result), trial_updates(self._config)
        status = "finished" if last.update == updates else "stopped"
        if last.diverged:
            status = "diverged"
        folder.end(status, last)
        self._sampler.tell(folder.values, last.score)
        self._on_report(folder, replace(last, update=updates))  # skipped updates count as done
        self._say(
            f"trial {folder.number}: {status} after {last.update} updates, "
            f"score {100 * last.score:.1f} %"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher; nothing reads the pickle."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the trial folders are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, see :meth:`save`."""


class Halving(ASHAScheduler):
    """ASHA that never stops the trial of the config's own values.

    All other trials are compared with it.

    ``by_request``: each trial is a Ray Train job and is asked to stop; it does so at its next
    report. Tune would kill the driver of the job, and Ray would not free the workers' resources.
    """

    def __init__(self, own: Values | None, by_request: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self._own, self._by_request, self._own_is_out = own, by_request, False

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        folder = trial.config["folder"]
        if folder.values == self._own and self._own_is_out:
            # ASHA stopped it earlier, so its scores no longer count at the rungs.
            return TrialScheduler.CONTINUE
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision != TrialScheduler.STOP:
            return TrialScheduler.CONTINUE
        if folder.values == self._own:
            self._own_is_out = True
            return TrialScheduler.CONTINUE
        if self._by_request:
            folder.ask_to_stop()
            return TrialScheduler.CONTINUE
        return decision


def _at_once(config: RunConfig) -> int:
    """Number of concurrent trials: ``search.max_concurrent``, or as many as there is room for.

    Ray Train gives up on workers that do not start in time.
    """
    compute, each = config.compute, config.search.workers_per_trial
    wanted = config.search.max_concurrent * each
    return (
        capacity(alive_nodes(), compute.cpus_per_worker, compute.gpus_per_worker, enough=wanted)
        // each
    )


def _trial(task: dict[str, Any], job: dict[str, Any]) -> None:
    """The process of one trial: it distils, or drives the Ray Train job that distils."""
    config = job["config"]
    prepare_process(config.compute.threads)
    if config.search.workers_per_trial == 1:
        run_trial(
            config, ray.get(job["data"]), task["folder"], lambda report: tune.report(asdict(report))
        )
        return
    with TemporaryDirectory() as scratch:  # checkpoints go to the folder of the trial
        TorchTrainer(
            _worker,
            train_loop_config={**job, "folder": task["folder"]},
            **worker_settings(config.compute, config.search.workers_per_trial),
            run_config=ray.train.RunConfig(
                storage_path=scratch,
                callbacks=[TuneReportCallback()],
                failure_config=ray.train.FailureConfig(max_failures=config.compute.max_failures),
            ),
        ).fit()


def _worker(job: dict[str, Any]) -> None:
    """One rank of a trial that is a Ray Train job."""
    config = job["config"]
    prepare_process(config.compute.threads)
    context = ray.train.get_context()
    run_trial(
        config,
        ray.get(job["data"]),
        job["folder"],
        lambda report: ray.train.report(asdict(report)),
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        wrap=ray.train.torch.prepare_model,
    )


def _resources(config: RunConfig) -> dict[str, float]:
    """Resources that Tune reserves for a trial.

    A Ray Train job reserves those of its workers itself. Tune refuses an empty request, so such a
    trial asks for one byte of memory.
    """
    compute = config.compute
    if config.search.workers_per_trial > 1:
        return {"cpu": 0, "memory": 1}
    return {"cpu": compute.cpus_per_worker, "gpu": compute.gpus_per_worker}


def trial_scheduler(config: RunConfig, ended: list[TrialFolder]) -> TrialScheduler:
    """The scheduler of the trials. ASHA first gets the reports of the ``ended`` ones.

    So a resumed search compares new trials with those of earlier sessions.
    """
    asha, search = config.search.asha, config.search
    if asha is None:
        return FIFOScheduler()
    scheduler = Halving(
        own_values(config),
        search.workers_per_trial > 1,
        time_attr="update",
        metric="score",
        mode="max",
        grace_period=asha.grace * search.report_every,
        reduction_factor=asha.reduction,
        max_t=trial_updates(config),
    )
    for folder in ended:
        trial: Any = SimpleNamespace(trial_id=folder.path.name, config={"folder": folder})
        controller: Any = None
        scheduler.on_trial_add(controller, trial)
        for report in folder.reports:
            scheduler.on_trial_result(controller, trial, asdict(report))
    return scheduler


def _report(result: dict[str, Any]) -> TrialReport:
    return TrialReport(
        result["update"], result["score"], result["standard_error"], result["diverged"]
    )
