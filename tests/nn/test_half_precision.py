"""Under torch's autocast convolutions and activations are in bfloat16; results change little."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ltdd_ray.bench.problem import Problem
from ltdd_ray.bench.sizes import Sizes
from ltdd_ray.distill.trajectory.matching import Scope


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(Sizes(width=16, depth=2, image_size=8, classes=4, images=24, steps=3))


def assert_near_and_not_equal(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == torch.float32
    assert 0.98 < cosine_similarity(found.flatten(), expected.flatten(), 0) < 1 - 1e-6


@pytest.mark.parametrize("scope", ["backbone", "classifier"])
def test_matching(problem: Problem, scope: Scope) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = problem.engine(scope, "exact", 3)
    assert_near_and_not_equal(found.images_grad, problem.engine(scope, "exact", 3).images_grad)


def test_a_networks_gradient_by_autograd(problem: Problem) -> None:
    def gradient() -> Tensor:
        theta = problem.given.start.clone().requires_grad_()
        loss = problem.flat.logits(theta, problem.given.images).float().square().mean()
        return torch.autograd.grad(loss, theta)[0]

    with torch.autocast("cpu", torch.bfloat16):
        found = gradient()
    assert_near_and_not_equal(found, gradient())
