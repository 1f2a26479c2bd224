"""DD-Ranking's scores against numbers worked out by hand, and which sets each of them needs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.evaluate.robustness import (
    augmentation_robust_score,
    compared_robustness,
    label_robust_score,
    normalised,
    robustness,
)
from ltdd_ray.evaluate.sets import training_set
from ltdd_ray.evaluate.train import evaluate_network

RUNS = {
    "distilled": [0.45, 0.47],
    "distilled_hard": [0.40, 0.41],
    "distilled_unaugmented": [0.44, 0.43],
    "random": [0.31, 0.30],
    "random_soft": [0.40, 0.39],
    "random_soft_unaugmented": [0.38, 0.39],
    "random_unaugmented": [0.30, 0.30],
    "full_ce": [0.58, 0.60],
}


def test_the_scores_by_hand() -> None:
    """e = 2.718281828, 1/e = 0.367879441, e - 1/e = 2.350402387."""
    assert (normalised(-1.0), normalised(1.0)) == pytest.approx((0.0, 1.0))
    assert normalised(0.0) == pytest.approx(0.632120559 / 2.350402387)
    # HLR 0.58 - 0.40, IOR 0.45 - 0.40: e^(0.025 - 0.09) = e^-0.065 = 0.937067463
    assert label_robust_score(0.18, 0.05) == pytest.approx(0.569188022 / 2.350402387)
    # e^(0.025 + 0.03) = e^0.055 = 1.056540615
    assert augmentation_robust_score(0.05, 0.06) == pytest.approx(0.688661174 / 2.350402387)


def test_networks_of_one_number_are_compared() -> None:
    found = robustness(RUNS, "soft")
    assert list(found) == ["hlr", "ior", "lrs", "ior_unaugmented", "ars"]
    assert found["hlr"] == pytest.approx([0.18, 0.19])
    assert found["ior"] == pytest.approx([0.05, 0.08])
    assert found["ior_unaugmented"] == pytest.approx([0.06, 0.04])
    assert found["lrs"] == pytest.approx([0.242166203, label_robust_score(0.19, 0.08)])
    assert found["ars"] == pytest.approx([0.292997138, augmentation_robust_score(0.08, 0.04)])


def test_a_set_with_hard_labels_is_compared_with_hard_labels() -> None:
    found = robustness(RUNS, "hard")
    assert found["hlr"] == pytest.approx([0.13, 0.13])
    assert found["ior"] == pytest.approx([0.14, 0.17])
    assert found["ior_unaugmented"] == pytest.approx([0.14, 0.13])


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ("full_ce", ["ior", "ior_unaugmented", "ars"]),
        ("distilled_hard", ["ior", "ior_unaugmented", "ars"]),
        ("random_soft", ["hlr", "ior_unaugmented"]),
        ("distilled_unaugmented", ["hlr", "ior", "lrs"]),
        ("distilled", ["hlr", "ior_unaugmented"]),
    ],
)
def test_a_score_needs_its_sets(missing: str, left: list[str]) -> None:
    runs = {name: values for name, values in RUNS.items() if name != missing}
    assert list(robustness(runs, "soft")) == left


def result(pictures: int, **runs: list[float]) -> dict:
    sets = {name: {"accuracy": {"runs": values}, "labels": "soft"} for name, values in runs.items()}
    return {"pictures_per_image": pictures, "sets": sets}


def test_methods_share_the_sets_that_are_shown_at_the_same_resolution() -> None:
    ltdd = result(1, distilled=[0.45], distilled_hard=[0.40])
    mosaic = result(4, distilled=[0.50], distilled_hard=[0.42])
    random, full = result(1, random_soft=[0.40]), result(1, full_ce=[0.58])
    plain, large, of_random, of_full = compared_robustness([ltdd, mosaic, random, full])
    assert plain["hlr"] == pytest.approx([0.18]) and plain["ior"] == pytest.approx([0.05])
    assert list(large) == ["hlr"] and large["hlr"] == pytest.approx([0.16])
    assert of_random == of_full == {}
    own = result(1, distilled=[0.45], random_soft=[0.30])
    assert compared_robustness([own, random])[0]["ior"] == pytest.approx([0.15])


def test_unaugmented_sets_are_equal_images_trained_on_as_they_are(
    tiny: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(tmp_path, evaluate={"networks": 1, "epochs": 2})
    data, seen = prepare_data(config), []
    given = training_set(config, data, "random_unaugmented", network=0)
    assert torch.equal(given.images, training_set(config, data, "random", network=0).images)

    class Recording:
        def __init__(self, strategy: str) -> None:
            seen.append(strategy)

        def __call__(self, images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
            return images

    monkeypatch.setattr("ltdd_ray.evaluate.train.Augmentation", Recording)
    (model,) = config.evaluation_models
    for name in ("random", "random_unaugmented"):
        evaluate_network(config, data, name, model, 0, lambda report: None)
    assert seen == ["color_crop_scale_rotate", ""]
