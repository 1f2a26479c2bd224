"""The baselines compute the engine's gradients, so the times are those of equal work."""

import pytest
import torch

from ltdd_ray.bench.gradients import check_gradients, errors
from ltdd_ray.bench.problem import Problem
from ltdd_ray.bench.published import matching as published
from ltdd_ray.bench.sizes import Sizes

TINY = Sizes(width=6, depth=2, image_size=8, classes=4, threads=1, images=8, steps=4)


@pytest.fixture(params=[(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=["float64", "float32"])
def problem_and_bound(request: pytest.FixtureRequest) -> tuple[Problem, float]:
    dtype, bound = request.param
    return Problem(TINY, dtype), bound


def test_unrolled_is_the_exact_gradient(problem_and_bound: tuple[Problem, float]) -> None:
    problem, bound = problem_and_bound
    found = problem.engine("backbone", "exact", 4)
    assert max(errors(found, problem.unrolled(4)).values()) < bound
    assert found.loss == pytest.approx(float(problem.unrolled(4).loss), rel=bound)


def test_two_passes_are_the_first_order_gradient(problem_and_bound: tuple[Problem, float]) -> None:
    problem, bound = problem_and_bound
    found = problem.engine("backbone", "first_order", 4)
    assert max(errors(found, problem.two_pass(4)).values()) < bound
    assert found.loss == pytest.approx(float(problem.two_pass(4).loss), rel=bound)


def test_two_passes_through_the_frozen_backbone(problem_and_bound: tuple[Problem, float]) -> None:
    problem, bound = problem_and_bound
    found = problem.engine("classifier", "first_order", 4)
    assert max(errors(found, problem.classifier_two_pass(4)).values()) < bound
    assert found.loss == pytest.approx(float(problem.classifier_two_pass(4).loss), rel=bound)


def test_exact_and_first_order_differ() -> None:
    """At a rate where the second order matters, exact and first-order gradients differ."""
    problem = Problem(TINY, torch.float64)
    problem.given = problem.given._replace(lr=torch.tensor(1.0, dtype=torch.float64))
    assert errors(problem.two_pass(4), problem.unrolled(4))["images"] > 1e-3
    assert errors(problem.engine("backbone", "exact", 4), problem.unrolled(4))["images"] < 1e-9


def test_a_classifier_phase_that_differs_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_gradients(TINY)
    assert capsys.readouterr().out.count("gradient error") == 4

    def skewed(problem: Problem, steps: int) -> published.Gradients:
        found = genuine(problem, steps)
        return found._replace(images=found.images * (1 + 2e-5))

    genuine = Problem.classifier_two_pass
    monkeypatch.setattr(Problem, "classifier_two_pass", skewed)
    with pytest.raises(ArithmeticError, match="different gradients"):
        check_gradients(TINY)
