"""Which trials a search plans: those of earlier sessions that are in its space, then new ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import load_config
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.workflows.search import tuner
from ltdd_ray.workflows.search.evaluator import search_data
from ltdd_ray.workflows.search.results import write_results
from ltdd_ray.workflows.search.space import apply, draw, own_values
from ltdd_ray.workflows.search.trial import TrialFolder, TrialReport, trial_identity
from ltdd_ray.workflows.search.tuner import TrialPlan, run_trials

KEY = "distill.lambda_cls"  # 1 in the tiny config
RANGE: dict[str, Any] = {KEY: {"low": 0.25, "high": 8}}
Make = Callable[..., RunConfig]


@pytest.fixture
def make(tiny: Make, tmp_path: Path) -> Make:
    """``make(space, trials, **search)``: the config of a search."""

    def of(space: dict, trials: int, **search: Any) -> RunConfig:
        return tiny(tmp_path, search={"space": space, "trials": trials, "asha": None, **search})

    return of


@pytest.fixture
def data(make: Make) -> PreparedData:
    return search_data(make(RANGE, 1))


@pytest.fixture
def ended(make: Make, data: PreparedData, tmp_path: Path) -> list[TrialFolder]:
    """Four ended trials of a search over ``RANGE``, the largest values with the best scores."""
    trials = []
    for number, (value, score) in enumerate([(4.0, 0.8), (2.0, 0.7), (1.0, 0.5), (0.5, 0.6)]):
        parent, config = tmp_path / "trials", make(RANGE, 4)
        trials.append(TrialFolder.create(parent, config, data, number, {KEY: value}))
        trials[-1].end("finished", TrialReport(12, score))
    return trials


Planned = Callable[..., tuple[list[TrialFolder], list[str]]]


@pytest.fixture
def planned(data: PreparedData, tmp_path: Path) -> Planned:
    """``planned(config)`` plans a search; returns its new trials and the sentences printed."""

    def of(config: RunConfig) -> tuple[list[TrialFolder], list[str]]:
        said: list[str] = []
        plan = TrialPlan(config, data, tmp_path / "trials", lambda *_: None, said.append)
        begun: list[TrialFolder] = []
        while isinstance(task := plan.suggest(str(len(begun))), dict):
            begun.append(task["folder"])
        return begun, said

    return of


@pytest.mark.parametrize("algorithm", ["random", "optuna"])
@pytest.mark.parametrize("new", [{"low": 0.25, "high": 1.5}, {"choices": [0.5, 1.0]}])
def test_after_an_edit_of_the_space_trials_outside_give_way_to_new_ones(
    make: Make,
    data: PreparedData,
    ended: list[TrialFolder],
    planned: Planned,
    tmp_path: Path,
    algorithm: str,
    new: dict[str, Any],
) -> None:
    if algorithm == "optuna":
        pytest.importorskip("optuna")
    parent, count = tmp_path / "trials", 2 if "choices" in new else 4
    config = make({KEY: new}, count, algorithm=algorithm)
    begun, said = planned(config)
    for trial in begun:
        trial.end("finished", TrialReport(12, 0.4))
    trials = run_trials(config, data, parent, lambda *_: None, said.append)
    write_results(make(RANGE, 4), ended, tmp_path)  # before the edit
    write_results(config, trials, tmp_path)
    shown = sorted(place.name for place in (tmp_path / "tensorboard").iterdir())
    assert shown == [f"trial-{trial.number:03d}" for trial in trials]
    assert load_config(tmp_path / "best.yaml").distill.lambda_cls == 0.5
    assert trials == [*ended[2:], *begun]
    assert [trial.number for trial in begun] == [4, 5][: count - 2]
    assert said[0] == "trials left out, as their values are outside search.space: 2"
    enough = f"no trial to run, {count} are known; raise search.trials for more"
    assert said[-1].startswith(enough)

    begun_wider, said = planned(make(RANGE, count))
    assert begun_wider == [] and said[-1].startswith(enough), "a wider space keeps its trials"
    assert planned(make(RANGE, 4))[0] == []
    assert TrialFolder.known(parent, make(RANGE, 4), data) == [*ended, *begun]


def test_earlier_values_that_the_config_refuses_are_passed_over(
    make: Make, ended: list[TrialFolder], planned: Planned
) -> None:
    values = ended[1].path / "params.json"
    values.write_text(values.read_text().replace("2.0", "-2.0"))
    begun, said = planned(make(RANGE, 4))
    assert [trial.number for trial in begun] == [1] and said == []


@pytest.mark.parametrize("algorithm", ["random", "optuna"])
@pytest.mark.parametrize("trials", [3, 4, 9])
def test_every_trial_has_other_values_until_the_choices_are_used_up(
    make: Make, data: PreparedData, planned: Planned, tmp_path: Path, algorithm: str, trials: int
) -> None:
    if algorithm == "optuna":
        pytest.importorskip("optuna")
    space = {KEY: {"choices": [0.5, 1.0]}, "distill.lambda_rep": {"choices": [0.5, 1.0]}}
    config = make(space, trials, algorithm=algorithm)
    begun, said = planned(config)
    tried = {tuple(trial.values.items()) for trial in begun}
    assert [trial.number for trial in begun] == [0, 1, 2, 3][:trials]
    assert len(tried) == len(begun) and begun[0].values == own_values(config)
    for trial in begun:
        trial.end("finished", TrialReport(12, 0.5))
    again, said = planned(config)
    assert again == [] and said[0].startswith(f"no trial to run, {len(begun)} are known")
    assert said[0].endswith("so add choices") == (trials == 9)


def test_draws_without_a_collision_are_those_of_the_sampler(make: Make, planned: Planned) -> None:
    config = make(RANGE, 4)
    begun, _ = planned(config)
    assert [trial.values for trial in begun[1:]] == [
        draw(config.search, config.seed, number) for number in (1, 2, 3)
    ]


def test_a_range_with_fewer_values_than_trials_ends(
    make: Make, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "DRAWS", 20)
    begun, _ = planned(make({KEY: {"low": 2, "high": 2.0001}}, 4))
    assert {trial.values[KEY] for trial in begun} == {2.0}


def test_the_configs_own_values_are_tried_in_spite_of_an_empty_folder(
    make: Make, data: PreparedData, planned: Planned, tmp_path: Path
) -> None:
    config = make(RANGE, 2)
    own = own_values(config)
    assert own
    (tmp_path / "trials" / trial_identity(config, data, own)).mkdir(parents=True)
    begun, _ = planned(config)
    assert [trial.number for trial in begun] == [0, 1] and begun[0].values == own


def test_the_configs_own_values_are_tried_in_spite_of_a_search_over_other_keys(
    make: Make, data: PreparedData, planned: Planned
) -> None:
    (first,), _ = planned(make(RANGE, 1))
    first.keep(lambda draft: None, [TrialReport(3, 0.5)])
    first.end("stopped", TrialReport(3, 0.5))
    config = make({**RANGE, "distill.lambda_rep": {"low": 0.1, "high": 10}}, 1)
    (again,), _ = planned(config)
    assert again.path == first.path and again.values == own_values(config)
    assert again.outcome is None and again.reports == [TrialReport(3, 0.5)]


def test_new_own_values_are_tried_before_random_ones(
    make: Make, ended: list[TrialFolder], planned: Planned
) -> None:
    changed = apply(make(RANGE, 5), {KEY: 3.0})
    begun, _ = planned(changed)
    assert [(trial.number, trial.values) for trial in begun] == [(4, {KEY: 3.0})]
