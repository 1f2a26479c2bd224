"""Ray Tune around the trials: it gives them room, and ASHA decides which are worth going on with.

What is known about a trial lies in its folder as plain files. Tune's own state, which is pickled, goes to a temporary folder and is
never read back: a search that was killed makes a new Tuner for the trials that have no outcome yet.
"""

from collections.abc import Callable
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
from ltdd_ray.workflows.search.samplers import sampler_of
from ltdd_ray.workflows.search.space import Values, own_values, trial_updates
from ltdd_ray.workflows.search.trial import Report, TrialFolder, run_trial, trial_identity


def run_trials(
    config: RunConfig,
    data: PreparedData,
    parent: Path,
    on_report: Callable[[TrialFolder, Report], None],
    say: Callable[[str], None],
) -> list[TrialFolder]:
    """Bring every trial of the search to its outcome and return them all, by number.

    ``parent`` holds a folder per trial; all nodes must see it. ``say`` hears a sentence whenever a trial ends.
    Raises ``UserError`` where a trial failed more often than ``compute.max_failures``; what others reached stays.
    """
    plan = Plan(config, data, parent, on_report, say)
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
                    reuse_actors=config.search.workers_per_trial
                    == 1,  # a new process would import torch anew
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
            raise UserError(
                f"{len(errors)} trials of the search failed; the first said: {str(errors[0]).strip().splitlines()[-1]}. "
                "The same command goes on from what the others reached"
            ) from errors[0]
    return [
        folder
        for folder in TrialFolder.known(parent, config, data)
        if folder.number < config.search.trials
    ]


class Plan(Searcher):
    """Which trials are left: those that an earlier session began, then new ones. Writes down how each ends."""

    def __init__(
        self,
        config: RunConfig,
        data: PreparedData,
        parent: Path,
        on_report: Callable[[TrialFolder, Report], None],
        say: Callable[[str], None],
    ) -> None:
        super().__init__(metric="objective", mode="max")
        self._config, self._data, self._parent, self._on_report, self._say = (
            config,
            data,
            parent,
            on_report,
            say,
        )
        known = [
            folder
            for folder in TrialFolder.known(parent, config, data)
            if folder.number < config.search.trials
        ]
        self.ended = [folder for folder in known if folder.outcome]
        self._begun = [folder for folder in known if not folder.outcome]
        self._new = sorted(set(range(config.search.trials)) - {folder.number for folder in known})
        self._running: dict[str, TrialFolder] = {}
        self._sampler = sampler_of(config, len(known))
        for folder in self.ended:
            if outcome := folder.outcome:
                self._sampler.tell(folder.values, outcome.objective)
                self._on_report(folder, Report(trial_updates(config), outcome.objective))

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
        """A trial with values that no other has; among few choices there may be none left."""
        while self._new:
            number = self._new.pop(0)
            own = (
                own_values(self._config) if number == 0 else None
            )  # what is found shall not be worse than what was given
            values = own or self._sampler.ask(number)
            if not (self._parent / trial_identity(self._config, self._data, values)).exists():
                return TrialFolder.create(self._parent, self._config, self._data, number, values)
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._on_report(self._running[trial_id], _report(result))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        folder = self._running.pop(trial_id)
        if error or not result:
            self._say(f"trial {folder.number}: failed")
            return
        last = _report(result)
        status = (
            "diverged"
            if last.diverged
            else "finished"
            if last.update == trial_updates(self._config)
            else "stopped"
        )
        folder.end(status, last)
        self._sampler.tell(folder.values, last.objective)
        self._on_report(
            folder, replace(last, update=trial_updates(self._config))
        )  # what it was spared counts as done
        self._say(
            f"trial {folder.number}: {status} after {last.update} updates at {100 * last.objective:.1f} %"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher beside its own state; nobody reads either."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the folders are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see :meth:`save`."""


class Halving(ASHAScheduler):
    """ASHA that sees the config's own values, trial 0, through to the end, as what others are compared with.

    ``by_request``: trials are Train jobs, which are asked to stop and do so at their next report. Tune would kill the trial, and so
    the driver of the job, whose workers' places then stay taken for as long as Ray runs.
    """

    def __init__(self, own: Values | None, by_request: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self._own, self._by_request, self._own_is_out = own, by_request, False

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        folder = trial.config["folder"]
        if folder.values == self._own and self._own_is_out:
            return (
                TrialScheduler.CONTINUE
            )  # and out of the others' comparison, as if it had been ended
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
    """As many trials as the search allows and the cluster has workers for: Ray Train gives up on workers that do not come."""
    compute, each = config.compute, config.search.workers_per_trial
    wanted = config.search.max_concurrent * each
    return (
        capacity(alive_nodes(), compute.cpus_per_worker, compute.gpus_per_worker, enough=wanted)
        // each
    )


def _trial(task: dict[str, Any], job: dict[str, Any]) -> None:
    """One trial's process: the distillation itself, or the driver of a Train job that is it."""
    config = job["config"]
    prepare_process(config.compute.threads)
    if config.search.workers_per_trial == 1:
        run_trial(
            config, ray.get(job["data"]), task["folder"], lambda report: tune.report(asdict(report))
        )
        return
    with TemporaryDirectory() as scratch:  # the trial's own folder holds its checkpoints
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
    """One rank of a trial that is a Train job."""
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
    """What Tune sets aside for a trial. A Train job asks for its workers' share itself; Tune refuses to ask for nothing."""
    compute = config.compute
    if config.search.workers_per_trial > 1:
        return {"cpu": 0, "memory": 1}
    return {"cpu": compute.cpus_per_worker, "gpu": compute.gpus_per_worker}


def trial_scheduler(config: RunConfig, ended: list[TrialFolder]) -> TrialScheduler:
    """ASHA that has seen the reports of the ``ended`` trials, so that a resumed search compares with them."""
    asha, search = config.search.asha, config.search
    if asha is None:
        return FIFOScheduler()
    scheduler = Halving(
        own_values(config),
        search.workers_per_trial > 1,
        time_attr="update",
        metric="objective",
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


def _report(result: dict[str, Any]) -> Report:
    return Report(
        result["update"], result["objective"], result["standard_error"], result["diverged"]
    )
