"""How far two gradients of the same matching loss are apart."""

import torch
from torch import Tensor

from ltdd_ray.bench.problem import Problem
from ltdd_ray.bench.published.matching import Gradients
from ltdd_ray.bench.sizes import Sizes
from ltdd_ray.distill.trajectory.matching import Match

SAME = 1e-5


def check_gradients(sizes: Sizes) -> None:
    """Print what float32 costs, and hold the engine's classifier phase against the published one.

    Two float32 runs agree only as far as their rounding leaves every ReLU on the same side, so equality is decided in float64.
    Raises ``ArithmeticError`` if the classifier phases differ there: their times would not compare the same work.
    """
    single, double, steps = Problem(sizes), Problem(sizes, torch.float64), sizes.steps
    reference = double.engine("backbone", "exact", steps)
    _say(
        "exact, float32 against float64",
        errors(single.engine("backbone", "exact", steps), reference),
    )
    _say(
        "unrolled as published, float32 against exact in float64",
        errors(single.unrolled(steps), reference),
    )
    classifier32, classifier64 = (
        errors(
            problem.engine("classifier", "first_order", steps), problem.classifier_two_pass(steps)
        )
        for problem in (single, double)
    )
    _say("classifier phase against published, both float32", classifier32)
    _say("classifier phase against published, both float64", classifier64)
    if not max(classifier64.values()) <= SAME:
        raise ArithmeticError(
            f"the classifier phases compute different gradients, relative errors {classifier64}"
        )


def errors(found: Match | Gradients, expected: Match | Gradients) -> dict[str, float]:
    """Relative errors, in the Euclidean norm, of the gradients over images, labels and rate."""
    pairs = zip(("images", "labels", "rate"), _gradients(found), _gradients(expected))
    return {
        name: float((a.double() - b.double()).norm() / b.double().norm()) for name, a, b in pairs
    }


def _gradients(result: Match | Gradients) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(result, Gradients):
        return result.images, result.labels, result.lr
    return result.images_grad, result.labels_grad, result.lr_grad


def _say(what: str, found: dict[str, float]) -> None:
    print(
        f"gradient error, {what}: "
        + ", ".join(f"{name} {error:.1e}" for name, error in found.items())
    )
