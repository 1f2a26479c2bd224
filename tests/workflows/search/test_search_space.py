"""The values of trials, and the searches that are refused before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import Dimension, RunConfig, SearchConfig
from ltdd_ray.workflows.search.samplers import OptunaSampler, RandomSampler, make_sampler
from ltdd_ray.workflows.search.space import apply, check_search, draw, trial_config

Tiny = Callable[..., RunConfig]
SPACE = {
    "distill.lambda_rep": {"low": 0.1, "high": 10, "log": True},
    "distill.lambda_cls": {"low": 0, "high": 1},
    "distill.ipc": {"choices": [1, 2]},
}


@pytest.fixture
def search(tiny: Tiny, tmp_path: Path) -> Callable[..., RunConfig]:
    def make(**changes: Any) -> RunConfig:
        return tiny(tmp_path, search={"space": SPACE, "report_every": 3, **changes})

    return make


def test_a_draw_is_a_function_of_seed_and_number_and_fills_the_space(
    search: Callable[..., RunConfig],
) -> None:
    space = search().search
    drawn = [draw(space, 3, number) for number in range(200)]
    assert drawn == [draw(space, 3, number) for number in range(200)] and drawn[0] != draw(
        space, 4, 0
    )
    assert {values["distill.ipc"] for values in drawn} == {1, 2}
    log, linear = (
        [values[key] for values in drawn] for key in ("distill.lambda_rep", "distill.lambda_cls")
    )
    assert (
        0.1 <= min(log) < 0.12 and 8 < max(log) <= 10 and 80 < sum(value < 1 for value in log) < 120
    )
    assert (
        0 <= min(linear) < 0.02
        and 0.98 < max(linear) <= 1
        and 80 < sum(value < 0.5 for value in linear) < 120
    )


def test_a_trial_has_its_own_values_and_the_updates_of_the_search(
    search: Callable[..., RunConfig],
) -> None:
    config = trial_config(
        search(updates=6),
        {"distill.lambda_rep": 0.5, "distill.representation.dam.lambda_prior": 2.0},
    )
    assert (config.distill.updates, config.distill.checkpoint_every, config.distill.lambda_rep) == (
        6,
        3,
        0.5,
    )
    assert (
        config.distill.representation.dam.lambda_prior == 2.0 and config.experts == search().experts
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"space": {"experts.count": {"choices": [1]}}}, "`experts.count` cannot be varied"),
        (
            {"space": {"distill.lambda_repp": {"low": 0, "high": 1}}},
            "unknown key `distill.lambda_repp`; did you mean `distill.lambda_rep`",
        ),
        ({"space": {"distill.ipc.x": {"low": 0, "high": 1}}}, "no setting `distill.ipc.x`"),
        ({"space": {"distill.lambda_rep": {"low": -1, "high": 1}}}, "distill.lambda_rep = -1.0"),
        ({"space": {"distill.hypergradient": {"choices": ["guess"]}}}, "guess"),
        ({"report_every": 13}, "report_every is 13, but a trial has only 12 updates"),
        (
            {"report_every": 5, "asha": {"grace": 3}},
            "grace is 3 reports of 5 updates, but a trial has only 12",
        ),
    ],
)
def test_a_search_that_cannot_run_is_refused(
    search: Callable[..., RunConfig], changes: dict, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        check_search(search(**changes))
    check_search(search())


@pytest.mark.parametrize(
    ("dimension", "complaint"),
    [
        ({"low": 1}, "low < high"),
        ({"low": 1, "high": 1}, "low < high"),
        ({"low": 0, "high": 1, "log": True}, "starts above 0"),
        ({"low": 0, "high": 1, "choices": [1]}, "not both"),
        ({"loww": 1}, r"unknown key `search.space.distill.lambda_rep.loww`"),
    ],
)
def test_a_dimension_is_a_range_or_choices(
    search: Callable[..., RunConfig], dimension: dict, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        search(space={"distill.lambda_rep": dimension})


def test_the_three_weights_are_the_default(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path)
    assert [key.rpartition(".")[2] for key in config.search.space] == [
        "lambda_prior",
        "lambda_rep",
        "lambda_cls",
    ]
    assert apply(config, draw(config.search, 0, 0)) != config


def test_the_random_sampler_draws(search: Callable[..., RunConfig]) -> None:
    sampler = make_sampler(search(), 0)
    assert isinstance(sampler, RandomSampler)
    sampler.tell({}, 1.0)
    assert sampler.ask(7) == draw(search().search, 3, 7)


def test_optuna_moves_to_values_with_high_scores(search: Callable[..., RunConfig]) -> None:
    pytest.importorskip("optuna")
    sampler = make_sampler(
        search(algorithm="optuna", space={"distill.lambda_cls": {"low": 0, "high": 1}}), 0
    )
    assert isinstance(sampler, OptunaSampler)
    asked = []
    for number in range(40):
        asked.append(sampler.ask(number))
        sampler.tell(asked[-1], -abs(asked[-1]["distill.lambda_cls"] - 0.9))
    early, late = (
        [abs(values["distill.lambda_cls"] - 0.9) for values in part]
        for part in (asked[:10], asked[-10:])
    )
    assert sum(late) < 0.5 * sum(early)


def test_optuna_takes_rounded_and_categorical_values_back(search: Callable[..., RunConfig]) -> None:
    pytest.importorskip("optuna")
    sampler = OptunaSampler(search(), 0)
    for number in range(12):
        sampler.tell(sampler.ask(number), float(number))
    sampler.tell({"distill.lambda_rep": 0.1, "distill.lambda_cls": 1.0, "distill.ipc": 2}, 0.5)


def test_without_optuna_the_remedy_is_named(
    search: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UserError, match="pip install optuna"):
        make_sampler(search(algorithm="optuna"), 0)


def test_search_settings_do_not_change_the_fingerprint_of_a_run(tiny: Tiny, tmp_path: Path) -> None:
    from ltdd_ray.config import result_fingerprint

    other = SearchConfig(space={"distill.lambda_rep": Dimension(low=1, high=2)}, trials=3)
    assert result_fingerprint(tiny(tmp_path)) == result_fingerprint(
        tiny(tmp_path, search=other.model_dump())
    )


def test_an_engine_without_experts_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"distill.engine is dm, but .* choose it with --set method=ltdd",
    ):
        check_search(tiny(tmp_path, distill={"ipc": 2, "engine": "dm"}))
