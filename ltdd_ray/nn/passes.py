"""What an inner training step needs of a network: its loss, the gradient, and that gradient's derivative along a direction.

B batch, K classes, P parameters that move; images (B, C, H, W), soft_label (B, K), theta (P,).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.autograd import grad

Loss = Callable[[Tensor, Tensor], Tensor]
Logits = Callable[[Tensor, Tensor], Tensor]


class Passes:
    """For any network, by differentiating twice. ``logits`` maps theta and images to (B, K); ``loss`` is a mean over the batch.

    Not more than ``micro_batch`` images go through the network at once, which changes nothing but rounding.
    """

    def __init__(self, logits: Logits, loss: Loss, micro_batch: int | None) -> None:
        self.logits, self.loss, self._micro_batch = logits, loss, micro_batch

    def value(self, theta: Tensor, images: Tensor, soft_label: Tensor) -> Tensor:
        """L, differentiable in everything."""
        return self.loss(self.logits(theta, images), soft_label)

    @torch.enable_grad()
    def gradient(self, theta: Tensor, images: Tensor, soft_label: Tensor) -> Tensor:
        """grad_theta L (P,)."""
        theta = theta.detach().requires_grad_()
        total = torch.zeros_like(theta)
        for x, p, share in self.chunks(images, soft_label):
            total += grad(share * self.value(theta, x, p), theta)[0]
        return total

    @torch.enable_grad()
    def hvp(
        self, theta: Tensor, v: Tensor, images: Tensor, soft_label: Tensor, with_theta: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """<grad_theta L, v> and its gradients over images, soft_label and, where asked for, theta (else None)."""
        theta = theta.detach().requires_grad_()
        value, bars = theta.new_zeros(()), []
        theta_bar = torch.zeros_like(theta) if with_theta else None
        for x, p, share in self.chunks(images, soft_label):
            x, p = x.detach().requires_grad_(), p.detach().requires_grad_()
            (step,) = grad(share * self.value(theta, x, p), theta, create_graph=True)
            along = step @ v
            value += along.detach()
            found = grad(along, (x, p) if theta_bar is None else (x, p, theta))
            bars.append(found[:2])
            if theta_bar is not None:
                theta_bar += found[2]
        images_bar, labels_bar = (torch.cat(bar) for bar in zip(*bars))
        return value, images_bar, labels_bar, theta_bar

    def chunks(self, images: Tensor, soft_label: Tensor) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Pieces of the batch, each with its share of it."""
        size = self._micro_batch or len(images)
        for x, p in zip(images.split(size), soft_label.split(size)):
            yield x, p, len(x) / len(images)

    def loss_bar(self, z: Tensor, p: Tensor, share: float) -> Tensor:
        """The gradient of ``share`` of the loss over logits z (B, K)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            return grad(share * self.loss(z, p), z)[0]

    def loss_hvp(
        self, z: Tensor, z_dot: Tensor, p: Tensor, share: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For z_bar as :meth:`loss_bar` gives it: <z_bar, z_dot>, z_bar, and the gradient of the first over z and p."""
        with torch.enable_grad():
            z, p = z.detach().requires_grad_(), p.detach().requires_grad_()
            (z_bar,) = grad(share * self.loss(z, p), z, create_graph=True)
            along = (z_bar * z_dot).sum()
            z_bar_dot, p_bar = grad(along, (z, p))
        return along.detach(), z_bar.detach(), z_bar_dot, p_bar
