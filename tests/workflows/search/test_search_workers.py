"""A trial that is a Ray Train job gives the scores of one process."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.workflows.search.evaluator import search_data
from ltdd_ray.workflows.search.space import own_values
from ltdd_ray.workflows.search.trial import TrialFolder, TrialReport, run_trial
from ltdd_ray.workflows.search.tuner import TrialPlan, run_trials, trial_scheduler


@pytest.mark.parametrize("workers", [1, 2])
def test_a_train_job_is_asked_to_stop_where_a_plain_trial_is_killed(
    tiny: Callable[..., RunConfig], tmp_path: Path, workers: int
) -> None:
    config = tiny(tmp_path, search={"updates": 4, "report_every": 2, "workers_per_trial": workers})
    folder = TrialFolder.create(tmp_path, config, search_data(config), 0, {})
    trial: Any = SimpleNamespace(trial_id="first", config={"folder": folder})
    controller: Any = None
    scheduler = trial_scheduler(config, [])
    scheduler.on_trial_add(controller, trial)
    decisions = [
        scheduler.on_trial_result(controller, trial, asdict(TrialReport(update, 0.5)))
        for update in (2, 4)
    ]
    assert decisions == ["CONTINUE", "STOP" if workers == 1 else "CONTINUE"]
    assert folder.told_to_stop(rank=0, world_size=1) == (workers == 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_configs_own_values_are_never_stopped(
    tiny: Callable[..., RunConfig], tmp_path: Path, workers: int
) -> None:
    """They fall behind at the first rung, run on, and no longer count at the second."""
    search = {
        "updates": 8,
        "report_every": 2,
        "asha": {"grace": 1, "reduction": 2},
        "workers_per_trial": workers,
    }
    config = tiny(tmp_path, search=search)
    data, controller = search_data(config), cast(Any, None)
    scheduler, own = trial_scheduler(config, []), own_values(config)
    assert own is not None
    folders = [
        TrialFolder.create(tmp_path, config, data, number, values)
        for number, values in enumerate(
            [own, {**own, "distill.lambda_cls": 1.5}, {**own, "distill.lambda_cls": 0.25}]
        )
    ]
    trials = [
        cast(Any, SimpleNamespace(trial_id=str(folder.number), config={"folder": folder}))
        for folder in folders
    ]
    for trial in trials:
        scheduler.on_trial_add(controller, trial)

    def stopped(number: int, update: int, score: float) -> bool:
        decision = scheduler.on_trial_result(
            controller, trials[number], asdict(TrialReport(update, score))
        )
        return decision == "STOP" or folders[number].told_to_stop(rank=0, world_size=1)

    assert [stopped(1, 2, 0.6), stopped(0, 2, 0.3), stopped(1, 4, 0.6), stopped(0, 4, 0.1)] == [
        False
    ] * 4
    assert stopped(2, 4, 0.5)


def test_choices_are_tried_only_once(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    space = {"distill.lambda_cls": {"choices": [0.25, 0.5]}}
    config = tiny(tmp_path, search={"space": space, "trials": 6})
    plan = TrialPlan(
        config,
        search_data(config),
        tmp_path / "trials",
        lambda trial, report: None,
        lambda said: None,
    )
    suggested = [plan.suggest(str(number)) for number in range(6)]
    tried = [
        one["folder"].values["distill.lambda_cls"] for one in suggested if isinstance(one, dict)
    ]
    assert sorted(tried) == [0.25, 0.5] and suggested[2:] == [TrialPlan.FINISHED] * 4


@pytest.mark.ray
def test_two_workers_search_as_one_process(
    ray_cluster: None, tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    search = {
        "trials": 1,
        "updates": 4,
        "report_every": 2,
        "epochs": 2,
        "workers_per_trial": 2,
        "asha": {"grace": 1},
    }
    config = tiny(tmp_path, search=search)
    data = search_data(config)
    for expert in missing_experts(config, data.train):
        run_expert(config, data, expert, lambda report: None)
    (trial,) = run_trials(
        config, data, tmp_path / "two", lambda trial, report: None, lambda said: None
    )
    assert trial.outcome and (trial.outcome.status, trial.outcome.update) == ("finished", 4)
    alone = TrialFolder.create(tmp_path / "one", config, data, 0, trial.values)
    run_trial(config, data, alone, lambda report: None)
    assert [report.update for report in trial.reports] == [2, 4]
    for ours, theirs in zip(trial.reports, alone.reports):
        assert ours.score == pytest.approx(theirs.score, abs=0.02)  # sums in another order
