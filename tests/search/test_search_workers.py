"""A trial that is a Ray Train job itself does what one process does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.experts.run import run_expert
from ltdd_ray.search.objective import search_data
from ltdd_ray.search.trial import Report, TrialFolder, run_trial
from ltdd_ray.search.tuner import run_trials


@pytest.mark.ray
def test_two_workers_search_as_one_process(ray_cluster: None, tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    search = {"trials": 1, "updates": 4, "report_every": 2, "epochs": 2, "workers_per_trial": 2, "asha": {"grace": 1}}
    config = tiny(tmp_path, search=search)
    data = search_data(config)
    for expert in missing_experts(config, data.train):
        run_expert(config, data, expert, lambda report: None)
    heard: list[Report] = []
    (trial,) = run_trials(config, data, tmp_path / "two", lambda trial, report: heard.append(report), lambda said: None)
    assert trial.outcome and trial.outcome.status == "finished" and trial.outcome.update == 4
    alone = TrialFolder.create(tmp_path / "one", config, data, 0, trial.values)
    run_trial(config, data, alone, lambda report: None)
    assert [report.update for report in trial.reports] == [report.update for report in heard[:2]] == [2, 4]
    for ours, theirs in zip(trial.reports, alone.reports):
        assert ours.objective == pytest.approx(theirs.objective, abs=0.02)  # sums in another order
