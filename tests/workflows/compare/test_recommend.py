"""`ltdd-ray recommend`: what fits into a time, and short runs on Ray, interrupted and ranked."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ltdd_ray.common.errors import NonFiniteLossError, UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config, load_config
from ltdd_ray.data.load import load_data
from ltdd_ray.methods import method_config
from ltdd_ray.workflows.compare import recommend as command
from ltdd_ray.workflows.compare import short_runs
from ltdd_ray.workflows.compare.recommend import recommend
from ltdd_ray.workflows.compare.short_runs import (
    CANDIDATES,
    Clock,
    Plan,
    estimated_costs,
    fitting_candidates,
    new_plan,
    scoring_epochs,
    share_of_updates,
    short_base,
    shortened,
)
from ltdd_ray.workflows.cost import CostEstimate
from ltdd_ray.workflows.search.evaluator import search_data

Tiny = Callable[..., RunConfig]
COSTS = {
    "ltdd": {"experts": 800.0, "distill": 1500.0, "evaluate": 250.0},
    "random": {"evaluate": 250.0},
}


@pytest.fixture
def base(tiny: Tiny, tmp_path: Path) -> RunConfig:
    """8 experts, 300 updates, 800 of distribution matching, 1000 epochs."""
    tree = tiny(tmp_path).model_dump(mode="json")
    tree["experts"]["count"], tree["distill"]["updates"] = 8, 300
    tree["evaluate"] |= {"epochs": 1000, "networks": 5}
    return short_base(RunConfig.model_validate(tree), 20)


def clock(left: float, factor: float = 1.0) -> Clock:
    return Clock(time.monotonic() + left, factor)


def test_the_runs_have_a_folder_and_experts_of_their_own(tiny: Tiny, tmp_path: Path) -> None:
    tree = tiny(tmp_path).model_dump(mode="json")
    tree["data"]["validation_fraction"] = 0.1
    tree["distill"] |= {"checks": {"every": 3}, "keep": "best"}
    tree["evaluate"]["sets"] = ["distilled", "random", "initial"]
    config = RunConfig.model_validate(tree)
    short, long = short_base(config, 2.5), short_base(config, 30)
    assert short.folder == tmp_path / "tiny" / "recommend" / "2.5min"
    assert short.store_uri == long.store_uri == str(tmp_path / "tiny" / "recommend" / "experts")
    assert short.store_uri != config.store_uri, "the experts of the run saw the held-out images"
    assert not short.data.validation_fraction and short.distill.checks.every is None
    assert short.evaluate.sets == ("distilled",) and short.evaluate.networks == 2


def test_experts_take_a_third_of_the_time_at_most(base: RunConfig) -> None:
    assert new_plan(base, COSTS, 20, left=1200).experts == 4, "100 s each, 400 s for them"
    assert new_plan(base, COSTS, 20, left=2399).experts == 7
    assert new_plan(base, COSTS, 20, left=2401).experts == 8
    assert new_plan(base, COSTS, 20, left=300).experts == 1, "one, however long it takes"


def test_updates_and_epochs_are_cut_to_what_is_left(base: RunConfig) -> None:
    """Two starts of 10 s; 2000 s of updates and scoring, which take as long as `factor` says."""
    plan = Plan(tuple(COSTS), COSTS, 4)
    assert share_of_updates(plan, clock(520)) == pytest.approx(0.25, abs=1e-3)
    assert share_of_updates(plan, clock(520, factor=2.5)) == pytest.approx(0.1, abs=1e-3)
    assert share_of_updates(plan, clock(9999)) == 1 and share_of_updates(plan, clock(1)) == 0.05
    plan = replace(plan, share=0.25)
    quick = shortened(base, plan)
    assert quick.experts.count == 4 and quick.distill.updates == 75
    assert quick.distill.distribution.updates == 200
    assert scoring_epochs(plan, COSTS, 1000, clock(110)) == pytest.approx(200, abs=1)
    assert scoring_epochs(plan, COSTS, 1000, clock(110, factor=2)) == pytest.approx(100, abs=1)
    assert scoring_epochs(plan, ["random"], 1000, clock(35)) == pytest.approx(100, abs=1)
    assert scoring_epochs(plan, COSTS, 1000, clock(9999)) == 250, "as planned with the updates"
    assert scoring_epochs(plan, COSTS, 1000, clock(-5)) == 50


def test_the_clock_learns_from_work_that_takes_long_enough() -> None:
    known = clock(60)
    assert 59 < known.left <= 60
    known.learn(estimated=40, taken=90)  # 10 of them to start
    assert known.factor == 2
    known.learn(estimated=2, taken=90)
    assert known.factor == 2
    known.learn(estimated=40, taken=10)
    assert known.factor == pytest.approx(0.1)


def test_too_short_a_time_names_the_least(base: RunConfig) -> None:
    """Three starts, an expert of 100 s, 5 % of 2000 s: 230 s, beside 20 s that were spent."""
    with pytest.raises(UserError, match=r"4 minutes are.* 2 methods.*about 4 min 10 s at least;"):
        new_plan(base, COSTS, 4, left=220)
    assert new_plan(base, COSTS, 4, left=231)


def test_equal_work_has_the_shortest_of_its_timings(
    base: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {
        "ltdd": {"experts": 90.0, "distill": 50.0, "evaluate": 7.0},
        "ltdd_mosaic": {"experts": 30.0, "distill": 60.0, "evaluate": 20.0},
        "random": {"evaluate": 5.0},
    }

    def estimate(config: RunConfig, _: object) -> CostEstimate:
        return CostEstimate(seconds[config.method], 1, 1, 1, 1)

    monkeypatch.setattr(short_runs, "estimate_cost", estimate)
    found = estimated_costs(base, list(seconds), search_data(base))
    assert found["ltdd"] == {"experts": 30, "distill": 50, "evaluate": 5}
    assert found["ltdd_mosaic"] == {"distill": 60, "evaluate": 20}, "ltdd trains its experts"
    assert found["random"] == {"evaluate": 5}


def test_each_store_is_counted_once(base: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """RLDD has experts of its own; the others share theirs."""
    monkeypatch.setattr(short_runs, "estimate_cost", quick_estimate)
    costs = estimated_costs(base, ["ltdd", "mtt", "rldd"], search_data(base))
    assert [method for method in costs if "experts" in costs[method]] == ["ltdd", "rldd"]
    assert Plan(tuple(costs), costs, 4).experts_seconds == 2


def test_every_candidate_is_a_method(base: RunConfig) -> None:
    tree = base.model_dump(mode="json")
    tree["distill"]["distribution"]["snapshots"]["max"] = 3
    for method in CANDIDATES:
        assert method_config(RunConfig.model_validate(tree), method).method == method


@pytest.mark.parametrize(
    ("own", "more"),
    [("graph_cut", ["graph_cut"]), ("ltdd", []), ("full_ce", []), ("a name of mine", [])],
)
def test_the_method_of_the_config_is_a_candidate(
    base: RunConfig, own: str, more: list[str]
) -> None:
    tree = base.model_dump(mode="json") | {"method": own}
    tree["distill"]["distribution"]["snapshots"]["max"] = 3
    said: list[str] = []
    found = fitting_candidates(RunConfig.model_validate(tree), (3, 16, 16), said.append)
    assert list(found) == [*CANDIDATES, *more] and not said


@pytest.mark.parametrize(
    ("minutes", "methods", "said"),
    [
        (0, None, "--minutes 0 is no time; give a number above 0"),
        (float("nan"), None, "--minutes nan is no time"),
        (5, ["ltd"], "ltdd"),
        (5, [], "the list of methods is empty"),
        (5, ["random", "full_ce"], "full_ce makes no small set"),
        (0.2, ["random", "ltdd"], "0.2 minutes are too short for 2 methods"),
    ],
)
def test_bad_input_is_answered_before_any_work(
    tiny: Tiny, tmp_path: Path, minutes: float, methods: list[str] | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        recommend(tiny(tmp_path), minutes, methods, Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_images_too_few_to_hold_out_are_named(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path, search={"validation_fraction": 0.001})
    with pytest.raises(UserError, match=r"no class is large enough.*search\.validation_fraction"):
        recommend(config, 5, ["random"], Console(quiet=True))


def quick_estimate(config: RunConfig, _: object, distill: float = 1.0) -> CostEstimate:
    seconds = {"experts": 1.0, "distill": distill, "evaluate": 1.0}
    left_out = {"experts": not config.needs_experts, "distill": not config.distils}
    kept = {stage: one for stage, one in seconds.items() if not left_out.get(stage)}
    return CostEstimate(kept, 1, 1, 1, 1)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_candidates_are_run_and_ranked_and_a_session_is_continued(
    ray_cluster: None, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digits down to one image in a class, which none can be held out of.

    Snapshots end at epoch 10, the experts at 6, so `tgdd_mosaic` does not fit. `idm` diverges.
    """
    data = {"source": "digits", "test_fraction": 0.25, "imbalance_factor": 134}
    data["normalisation"] = "standard"
    config = tiny(tmp_path, data=data, compute={"num_workers": 1, "num_actors": 2})
    assert min(load_data(config.data, config.seed).train.class_counts) == 1
    monkeypatch.setattr(short_runs, "estimate_cost", partial(quick_estimate, distill=2000.0))
    console, ran = Console(width=400, record=True), []
    run_stages = command.run_stages

    def watched(run: RunConfig, *rest: object) -> None:
        ran.append(run.method)
        if run.method == "idm":
            raise NonFiniteLossError("update 3: a loss is not finite")
        if run.method == "ltdd_mosaic" and ran.count(run.method) == 1:
            raise KeyboardInterrupt
        run_stages(run, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(command, "run_stages", watched)
    with pytest.raises(KeyboardInterrupt):
        recommend(config, 60, None, console)
    folder = config.folder / "recommend" / "60min"
    plan = json.loads((folder.parent / "60min.json").read_text())
    assert plan["experts"] == 3 and plan["epochs"] is None
    assert plan["share"] == pytest.approx(3560 / 6005, abs=0.05), "three methods distil"
    experts = files(config.folder / "recommend" / "experts")
    assert experts and not (folder / "best.yaml").exists()

    monkeypatch.setattr(short_runs, "estimate_cost", None)  # the plan is kept
    found = recommend(config, 60, None, console)
    said = console.export_text()
    ranked = {"random_soft", "random_soft_mosaic", "ltdd", "ltdd_mosaic"}
    assert {row.method for row in found} == ranked and files(
        config.folder / "recommend" / "experts"
    ) == experts
    assert "tgdd_mosaic is left out: " in said and "idm is left out: update 3" in said
    assert "2 networks of 2 epochs on each set" in said
    assert f"{found[0].method} is first" in said
    assert all(0 < row.accuracy < 1 and 0 < row.error < 0.3 for row in found)

    best = load_config(folder / "best.yaml")
    assert dump_config(best) in (folder / "best.yaml").read_text()
    assert best.method == found[0].method and best.experts.count == 3
    assert best.evaluate.epochs == config.evaluate.epochs and best.evaluate.split == "test"
    assert best.folder == config.folder / found[0].method
    assert f"next: `ltdd-ray run {folder / 'best.yaml'}`" in said

    margins = files(folder / "ltdd" / "margins")
    assert len(margins) == 2 and np.load(next(iter(margins))).ndim == 1
    monkeypatch.setattr(command, "run_stages", run_stages)
    with pytest.raises(UserError, match=r"ranks random_soft,.*, not ltdd; name the same methods"):
        recommend(config, 60, ["ltdd"], console)


@dataclass(frozen=True)
class StagesOfTenSeconds(command._Session):
    """Every stage takes a start and ten seconds of an imagined clock."""

    stages: list[str] = field(default_factory=list)

    def stage(self, config: RunConfig, name: str) -> float:
        self.stages.append(config.method)
        self.clock.end -= short_runs.SECONDS_TO_START + 10
        return short_runs.SECONDS_TO_START + 10

    def say(self, sentence: str) -> None:
        self.stages.append(sentence)


def test_a_method_that_seems_too_long_waits_for_the_others(base: RunConfig) -> None:
    """`dm` shows that work takes a tenth of its estimate, so that `idm` fits after all."""
    costs = {"ltdd": 10.0, "idm": 1000.0, "dm": 100.0}
    plan = Plan(tuple(costs), {name: {"distill": c} for name, c in costs.items()}, 4, share=1.0)
    fields: list[Any] = [base, None, clock(200), None, None]
    session = StagesOfTenSeconds(*fields)
    assert list(command._make_sets(session, plan)) == ["ltdd", "dm", "idm"]
    assert [said for said in session.stages if said in costs] == ["ltdd", "dm", "idm"]

    session = StagesOfTenSeconds(*fields[:2], clock(145), None, None)
    assert list(command._make_sets(session, plan)) == ["ltdd", "dm"], "105 s are left, 120 needed"
    assert session.stages[-1] == "idm is left out: no time is left for it"


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_method_without_time_left_is_not_started(
    ray_cluster: None, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first method is always made. The others take longer than was thought.

    Experts of an earlier session are not trained again, and say nothing about the estimates.
    """
    config = tiny(tmp_path, compute={"num_workers": 1, "num_actors": 1})
    monkeypatch.setattr(short_runs, "estimate_cost", quick_estimate)
    learned: list[float] = []

    def learn(self: Clock, estimated: float, taken: float) -> None:
        self.factor = 10_000.0
        learned.append(estimated)

    monkeypatch.setattr(Clock, "learn", learn)
    console = Console(width=300, record=True)
    found = recommend(config, 5, ["dm", "idm", "random_soft"], console)
    assert {row.method for row in found} == {"dm", "random_soft"}
    assert "idm is left out: no time is left for it" in console.export_text()
    assert not (config.folder / "recommend" / "5min" / "idm").exists()
    recommend(config, 6, ["random_soft"], Console(quiet=True))
    assert len(learned) == 3, "experts and dm, then the experts again"
    assert learned[0] == 1 and learned[2] == 0


def files(folder: Path) -> dict[Path, int]:
    """Modification time of every file below ``folder``."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.*") if file.is_file()}
