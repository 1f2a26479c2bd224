"""The reference implementation of ``fused.py`` in torch operations, for any device.

Letters and shapes are those of ``fused.py``. It computes in the dtype of gamma and returns the
dtype of u, which may have half as many bits.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

EPS = 1e-5


@dataclass(frozen=True)
class Affine:
    """gamma, beta and their dots, each (C,)."""

    gamma: Tensor
    beta: Tensor
    gamma_dot: Tensor
    beta_dot: Tensor


def _mean(tensor: Tensor) -> Tensor:
    return tensor.mean((2, 3), keepdim=True)


def _wide(vector: Tensor) -> Tensor:
    return vector[:, None, None]


def _normalised(u: Tensor) -> tuple[Tensor, Tensor]:
    """n (B, C, H, W) and r = 1/sqrt(var + eps) (B, C, 1, 1)."""
    centred = u - _mean(u)
    r = (_mean(centred.square()) + EPS).rsqrt()
    return centred * r, r


def _through(a: Tensor, y_bar: Tensor) -> Tensor:
    """a_bar (B, C, H, W): back through pooling and ReLU."""
    spread = y_bar.to(a.dtype).repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    return pad(spread, (0, a.shape[3] % 2, 0, a.shape[2] % 2)) * (a > 0)


def forward(u: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    n, _ = _normalised(u.to(gamma.dtype))
    return avg_pool2d((_wide(gamma) * n + _wide(beta)).relu(), 2).to(u.dtype)


def backward(
    u: Tensor, gamma: Tensor, beta: Tensor, y_bar: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    n, r = _normalised(u.to(gamma.dtype))
    a_bar = _through(_wide(gamma) * n + _wide(beta), y_bar)
    n_bar = _wide(gamma) * a_bar
    u_bar = r * (n_bar - _mean(n_bar) - n * _mean(n_bar * n))
    return u_bar.to(u.dtype), (a_bar * n).sum((0, 2, 3)), a_bar.sum((0, 2, 3))


def _tangent(
    u: Tensor, u_dot: Tensor, affine: Affine
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """n, n_dot, r, r_dot / r, a, a_dot."""
    u, u_dot = u.to(affine.gamma.dtype), u_dot.to(affine.gamma.dtype)
    n, r = _normalised(u)
    n_u_dot = _mean(n * u_dot)
    n_dot = r * (u_dot - _mean(u_dot) - n * n_u_dot)
    gamma, beta, gamma_dot, beta_dot = (
        _wide(v) for v in (affine.gamma, affine.beta, affine.gamma_dot, affine.beta_dot)
    )
    return n, n_dot, r, -r * n_u_dot, gamma * n + beta, gamma * n_dot + gamma_dot * n + beta_dot


def tangent_forward(u: Tensor, u_dot: Tensor, affine: Affine) -> tuple[Tensor, Tensor]:
    *_, a, a_dot = _tangent(u, u_dot, affine)
    return avg_pool2d(a.relu(), 2).to(u.dtype), avg_pool2d(a_dot * (a > 0), 2).to(u.dtype)


def tangent_backward(
    u: Tensor, u_dot: Tensor, affine: Affine, y_bar: Tensor, y_bar_dot: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, n_dot, r, growth, a, _ = _tangent(u, u_dot, affine)
    gamma, gamma_dot = _wide(affine.gamma), _wide(affine.gamma_dot)
    a_bar, a_bar_dot = _through(a, y_bar), _through(a, y_bar_dot)
    n_bar, n_bar_dot = gamma * a_bar, gamma * a_bar_dot + gamma_dot * a_bar
    m, m_dot = _mean(n_bar * n), _mean(n_bar_dot * n + n_bar * n_dot)
    u_bar = r * (n_bar - _mean(n_bar) - n * m)
    u_bar_dot = growth * u_bar + r * (n_bar_dot - _mean(n_bar_dot) - n_dot * m - n * m_dot)
    return (
        u_bar.to(u.dtype),
        u_bar_dot.to(u.dtype),
        (a_bar_dot * n + a_bar * n_dot).sum((0, 2, 3)),
        a_bar_dot.sum((0, 2, 3)),
    )
