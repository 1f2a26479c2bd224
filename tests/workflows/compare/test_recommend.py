"""Short runs that fit a time, and their ranking, against numbers worked out by hand."""

from collections.abc import Callable
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.methods import method_config
from ltdd_ray.workflows.compare.recommend import (
    CANDIDATES,
    Ranked,
    advice,
    fitted,
    held_out_config,
    ranked,
    recommend,
)

Tiny = Callable[..., RunConfig]


@pytest.fixture
def base(tiny: Tiny, tmp_path: Path) -> RunConfig:
    """8 experts, 300 updates, 800 of distribution matching, 1000 epochs."""
    config = tiny(tmp_path)
    tree = config.model_dump(mode="json")
    tree["experts"]["count"], tree["distill"]["updates"] = 8, 300
    tree["evaluate"] |= {"epochs": 1000, "networks": 5}
    return held_out_config(RunConfig.model_validate(tree))


def test_what_is_not_held_out_is_trained_on_by_experts_of_their_own(base: RunConfig) -> None:
    assert base.evaluate.split == "validation" and base.data.validation_fraction == 0.2
    assert base.evaluate.networks == 2 and base.name == "tiny/recommend"
    assert base.store_uri.endswith("tiny/recommend/experts")
    tree = base.model_dump(mode="json") | {"name": "own"}
    tree["data"]["validation_fraction"], tree["evaluate"]["networks"] = 0.4, 1
    again = held_out_config(RunConfig.model_validate(tree))
    assert again.data.validation_fraction == 0.4 and again.evaluate.networks == 1


def test_runs_are_cut_to_the_time(base: RunConfig) -> None:
    """20 min less 20 s a method; half of 1160 s is 580 s, for 2 of 8 experts of 232 s."""
    costs = {
        "ltdd": {"experts": 1856.0, "distill": 1500.0, "evaluate": 492.0},
        "random": {"evaluate": 492.0},
    }
    quick = fitted(base, costs, 20)
    assert quick.experts.count == 2
    share = (1160 - 2 * 232) / (1500 + 2 * 492)
    assert quick.distill.updates == round(300 * share) == 84
    assert quick.distill.distribution.updates == round(800 * share)
    assert quick.evaluate.epochs == round(1000 * share)
    assert fitted(base, costs, 600) == base, "with enough time nothing is cut"


def test_too_short_a_time_names_the_least(base: RunConfig) -> None:
    costs = {"ltdd": {"experts": 80.0, "distill": 3000.0, "evaluate": 2000.0}}
    with pytest.raises(UserError, match=r"2 minutes.* at least 18 min 40 s here; raise --minutes"):
        fitted(base, {"ltdd": {**costs["ltdd"], "experts": 8000.0}}, 2)
    assert fitted(base, costs, 4).experts.count == 8


def result(method: str, runs: list[float], per_class: list[float | None]) -> dict:
    accuracy = {"mean": sum(runs) / len(runs), "runs": runs}
    groups = {"few": {"mean": per_class[-1]}} if per_class[-1] is not None else {}
    return {
        "method": method,
        "accuracy": accuracy,
        "per_class": {"mean": per_class},
        "groups": groups,
    }


def test_the_ranking_and_its_errors_by_hand() -> None:
    found = ranked(
        [
            result("idm", [0.40, 0.44], [0.6, 0.24, None]),
            result("ltdd", [0.55], [0.8, 0.5, 0.35]),
        ],
        np.array([8, 3, 2]),
    )
    assert [row.method for row in found] == ["ltdd", "idm"]
    # Smoothed: (8 x 0.6 + 1) / 10 = 0.58 and (3 x 0.24 + 1) / 5 = 0.344; variance of runs 0.0008.
    images = (0.58 * 0.42 / 8 + 0.344 * 0.656 / 3) / 2**2
    assert found[1] == Ranked(
        "idm", pytest.approx(0.42), pytest.approx(sqrt(images + 0.0004)), None
    )
    assert found[0].few == 0.35


def test_methods_within_the_error_are_called_level() -> None:
    rows = [Ranked(name, a, 0.01, None) for name, a in (("a", 0.5), ("b", 0.48), ("c", 0.46))]
    said = advice(rows, "my photos.yaml")
    assert "a is first; b cannot be told from it" in said[0]
    assert said[1].endswith("`ltdd-ray compare 'my photos.yaml' --methods a,b`")
    assert "a is first. Short" in advice([rows[0], rows[2]], "photos.yaml")[0]


def test_every_candidate_is_a_method(base: RunConfig) -> None:
    for method in CANDIDATES:
        tree = base.model_dump(mode="json")
        tree["distill"]["distribution"]["snapshots"]["max"] = 3
        assert method_config(RunConfig.model_validate(tree), method).method == method


@pytest.mark.ray
def test_the_candidates_that_fit_are_run_and_ranked(
    ray_cluster: None, tiny: Tiny, tmp_path: Path
) -> None:
    """Snapshots end at epoch 10, the experts at 6, so `tgdd_mosaic` is left out."""
    config = tiny(
        tmp_path,
        evaluate={"networks": 2, "epochs": 3},
        compute={"num_workers": 1, "num_actors": 1},
    )
    console = Console(width=150, record=True)
    found = recommend(config, 60, None, console)
    said = console.export_text()
    assert {row.method for row in found} == set(CANDIDATES) - {"tgdd_mosaic"}
    assert "tgdd_mosaic is left out" in said and f"{found[0].method} is first" in said
    assert [row.accuracy for row in found] == sorted((r.accuracy for r in found), reverse=True)
    assert not (config.folder / "recommend" / "tgdd_mosaic").exists()
