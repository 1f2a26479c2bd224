"""The seconds until a set is four points above its start, on a run of three updates."""

from pathlib import Path

import pytest

from ltdd_ray.bench import distill
from ltdd_ray.common.errors import UserError
from ltdd_ray.config.loading import load_config
from ltdd_ray.data.prepare import prepare_data

SHORT = (
    "experts.count=1",
    "experts.representation.epochs=3",
    "experts.classifier.epochs=3",
    "distill.updates=3",
    "distill.representation.start_epochs.max=1",
    "distill.classifier.start_epochs.max=1",
    "evaluate.epochs=1",
)


def test_the_clock_stops_at_the_first_score_that_is_high_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distill, "POINTS", -100)
    monkeypatch.setattr(distill, "EVERY", 1)
    found = distill.measure(2, *SHORT)
    assert [result.name for result in found] == ["distill_seconds_to_4_points"]
    assert 0 < found[0].low < 60


def test_a_set_that_does_not_rise_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "POINTS", 101)
    with pytest.raises(
        UserError, match="bench distill: the set is less than 101 points above its start"
    ):
        distill.measure(1, *SHORT)


def test_scores_come_from_images_that_nothing_was_trained_on(tmp_path: Path) -> None:
    config = load_config("demo", [*distill.SETTINGS, f"output={tmp_path}"])
    data = prepare_data(config)
    held_out = distill.held_out(config, data)
    seen = {*data.train.digests(), *data.evaluation.digests()}
    assert not seen & set(held_out.digests())
    assert (held_out.class_counts + data.train.class_counts == 134).all()
