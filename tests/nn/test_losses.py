import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from ltdd_ray.nn.losses import (
    BalancedSoftmax,
    DamLoss,
    logit_error,
    soft_cross_entropy,
    soft_label_loss,
)

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]], dtype=torch.float64)
SOFT = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], dtype=torch.float64)
PRIOR = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)


def test_soft_cross_entropy_is_torchs() -> None:
    assert soft_cross_entropy(LOGITS, SOFT) == pytest.approx(float(cross_entropy(LOGITS, SOFT)))


def test_dam_with_lambda_0_and_equal_weights_is_soft_cross_entropy() -> None:
    loss = DamLoss.from_prior(PRIOR, 0.0, "none")
    assert float(loss(LOGITS, SOFT)) == pytest.approx(float(soft_cross_entropy(LOGITS, SOFT)))


@pytest.mark.parametrize(
    ("class_weights", "g"),
    [("none", [1, 1, 1]), ("frequency", [0.7, 0.2, 0.1]), ("mean_one", [2.1, 0.6, 0.3])],
)
def test_dam_is_its_formula(class_weights, g: list[float]) -> None:
    expected = 0.0
    for b in range(2):
        shifted = [float(LOGITS[b, k] - 1.5 * PRIOR[k].log()) for k in range(3)]
        norm = float(torch.tensor(shifted, dtype=torch.float64).exp().sum().log())
        expected -= sum(g[k] * float(SOFT[b, k]) * (shifted[k] - norm) for k in range(3)) / 2
    assert float(DamLoss.from_prior(PRIOR, 1.5, class_weights)(LOGITS, SOFT)) == pytest.approx(
        expected
    )


def test_under_dam_a_student_raises_head_logits() -> None:
    """Under balanced labels the loss has its minimum at z = lambda log s."""
    uniform = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    logits = PRIOR.log()[None].clone().requires_grad_()
    (slope,) = torch.autograd.grad(DamLoss.from_prior(PRIOR, 1.0, "none")(logits, uniform), logits)
    assert float(slope.abs().max()) < 1e-12


def test_balanced_softmax_is_its_formula() -> None:
    labels, expected = torch.tensor([2, 0]), 0.0
    for b in range(2):
        weighted = [float(PRIOR[k] * LOGITS[b, k].exp()) for k in range(3)]
        expected -= math.log(weighted[labels[b]] / sum(weighted)) / 2
    assert float(BalancedSoftmax(PRIOR.log())(LOGITS, labels)) == pytest.approx(expected)


def test_balanced_softmax_removes_the_prior_from_the_logits() -> None:
    """With labels as frequent as the prior and equal images, equal logits are the optimum."""
    logits = torch.zeros(10, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    (slope,) = torch.autograd.grad(BalancedSoftmax(PRIOR.log())(logits, labels), logits)
    assert float(slope.sum(0).abs().max()) < 1e-12


def test_the_squared_error_of_logits_knows_them_up_to_a_constant() -> None:
    z, target = LOGITS.tolist(), SOFT.log().tolist()
    expected = 0.0
    for one, other in zip(z, target):
        gaps = [a - b for a, b in zip(one, other)]
        expected += sum((gap - sum(gaps) / 3) ** 2 for gap in gaps) / 6
    assert float(logit_error(LOGITS, SOFT)) == pytest.approx(expected)
    shifted = LOGITS + torch.tensor([[7.0], [-2.0]])
    assert float(logit_error(shifted, SOFT)) == pytest.approx(expected)
    assert float(logit_error(SOFT.log() + 3, SOFT)) == pytest.approx(0, abs=1e-12)
    assert torch.isfinite(logit_error(LOGITS, torch.eye(3, dtype=torch.float64)[:2]))


def test_the_loss_on_soft_labels_is_a_sum_of_both() -> None:
    expected = 0.25 * soft_cross_entropy(LOGITS, SOFT) + 3 * logit_error(LOGITS, SOFT)
    assert float(soft_label_loss(0.25, 3.0)(LOGITS, SOFT)) == pytest.approx(float(expected))
    assert soft_label_loss(1.0, 0.0) is soft_cross_entropy
