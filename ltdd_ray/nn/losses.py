"""Losses on soft labels.

B batch, C classes; logits z (B, C), soft labels p (B, C) with rows that sum to 1, prior s (C,) with
s_k = n_k / N.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def soft_cross_entropy(logits: Tensor, soft_label: Tensor) -> Tensor:
    """-(1/B) sum_b sum_k p_bk log softmax(z_b)_k, a scalar in nats."""
    return -(soft_label * logits.log_softmax(-1)).sum(-1).mean()


def logit_error(logits: Tensor, soft_label: Tensor) -> Tensor:
    """The mean over b and k of (z_bk - log p_bk)^2, with z_b and log p_b each less its mean over k.

    Logits are known up to a constant, which the mean takes away. A p that is 0 in float32 counts as
    the smallest number that is not.
    """
    target = soft_label.clamp(min=torch.finfo(soft_label.dtype).tiny).log()
    gap = logits - target
    return (gap - gap.mean(-1, keepdim=True)).square().mean()


def soft_label_loss(ce_weight: float, mse_weight: float) -> Callable[[Tensor, Tensor], Tensor]:
    """``ce_weight`` soft cross-entropy + ``mse_weight`` :func:`logit_error` (RLDD, AAAI 2026)."""
    if (ce_weight, mse_weight) == (1, 0):
        return soft_cross_entropy
    return lambda logits, soft_label: (
        ce_weight * soft_cross_entropy(logits, soft_label)
        + mse_weight * logit_error(logits, soft_label)
    )


@dataclass(frozen=True)
class BalancedSoftmax:
    """-(1/B) sum_b log softmax(z_b + log s)_{c_b} for hard labels c (B,).

    Ren et al., NeurIPS 2020, Eq. 4. Because training adds the prior, the logits z alone predict as
    if all classes were equally frequent.
    """

    log_prior: Tensor

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits + self.log_prior, labels)


def hard_label_loss(
    name: Literal["cross_entropy", "balanced_softmax"], labels: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss ``name`` of logits (B, C) and hard labels (B,).

    ``labels`` (N,) are those of all training images, whose shares are the prior.
    """
    if name == "cross_entropy":
        return cross_entropy
    return BalancedSoftmax((torch.bincount(labels).float() / len(labels)).log())


@dataclass(frozen=True)
class DamLoss:
    """The distribution-agnostic loss (Zhao et al., CVPR 2025, Sec. 4.1):

        L_DAM = -(1/B) sum_b sum_k g_k p_bk log softmax(z_b - lambda log s)_k

    Under it a student trained on balanced images has to raise the logits of head classes. It
    thereby acquires the bias of an expert trained on long-tailed images, and the images need not
    carry that bias. ``class_weights`` g of ones and ``logit_shift`` -lambda log s of zeros give
    :func:`soft_cross_entropy`. The published configurations use g_k = s_k and lambda = 0.
    """

    class_weights: Tensor
    logit_shift: Tensor

    @classmethod
    def from_prior(
        cls,
        prior: Tensor,
        lambda_prior: float,
        class_weights: Literal["none", "frequency", "mean_one"],
    ) -> "DamLoss":
        """From s (C,): g_k is 1 (`none`), s_k (`frequency`) or C s_k (`mean_one`)."""
        weights = {
            "none": torch.ones_like(prior),
            "frequency": prior,
            "mean_one": prior * len(prior),
        }
        return cls(weights[class_weights], -lambda_prior * prior.log())

    def __call__(self, logits: Tensor, soft_label: Tensor) -> Tensor:
        return soft_cross_entropy(logits + self.logit_shift, self.class_weights * soft_label)
