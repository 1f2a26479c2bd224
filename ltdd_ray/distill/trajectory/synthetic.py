"""The learnable set: mosaics of pictures, soft labels and the inner learning rate.

A stored image is a mosaic of f x f pictures (f is `distill.pictures_per_side`); students see the
pictures, decoded. With f = 1 image and picture are the same.

M images, P = M f^2 pictures, C classes, K x H x W image shape.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ltdd_ray.config import DistillConfig
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.distill.formation import decode
from ltdd_ray.distill.rounding import round_images
from ltdd_ray.distill.trajectory.matching import Match


class SyntheticSet(nn.Module):
    """Images x (M, K, H, W), soft-label logits y (P, C) and log alpha: what distillation learns.

    The rate is learned as log alpha, so it stays positive after any step. ``classes`` (P,) holds
    the class of each picture.
    """

    classes: Tensor

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        classes: Tensor,
        syn_lr: float,
        pictures_per_side: int = 1,
        rounded_by: Normalisation | None = None,
    ) -> None:
        """With ``rounded_by``, students see images of 8 bits in the pixels that it maps back to."""
        super().__init__()
        self.images = nn.Parameter(images)
        self.labels = nn.Parameter(labels)
        self.log_lr = nn.Parameter(torch.tensor(syn_lr, device=images.device).log())
        self.register_buffer("classes", classes)
        self.pictures_per_side, self._rounded_by = pictures_per_side, rounded_by

    @property
    def syn_lr(self) -> Tensor:
        return self.log_lr.detach().exp()

    def pictures(self) -> Tensor:
        """What students see, (P, K, H, W); differentiable in the images.

        Mosaics are rounded before they are decoded.
        """
        return decode(self.stored_images(), self.pictures_per_side)

    def stored_images(self) -> Tensor:
        """The images (M, K, H, W) as the set stores them, rounded where it has 8 bits."""
        if self._rounded_by is None:
            return self.images
        return round_images(self.images, self._rounded_by)

    def forward(self, gradients: "Gradients") -> Tensor:
        """<set, gradients>, whose backward leaves the gradients in ``.grad``.

        Picture gradients go back through the decoder here, once an update. Under DDP the backward
        also averages over workers; ``torch.autograd.grad`` through a DDP module would not.
        """
        dot = (self.pictures() * gradients.pictures).sum() + (self.labels * gradients.labels).sum()
        return dot + self.log_lr * gradients.log_lr

    def optimiser(self, config: DistillConfig) -> torch.optim.SGD:
        groups = [
            {"params": [self.images], "lr": config.lr_image, "momentum": config.momentum_image},
            {"params": [self.labels], "lr": config.lr_label, "momentum": config.momentum_label},
            {"params": [self.log_lr], "lr": config.lr_syn_lr, "momentum": config.momentum_syn_lr},
        ]
        return torch.optim.SGD(groups)

    def limit_steps(self, config: DistillConfig) -> None:
        """Shorten gradients whose step, without momentum, is longer than the config allows.

        With a rate that does not fit the data, progress is then slow, but the loss stays finite.
        """
        for parameter, rate, largest in (
            (self.images, config.lr_image, config.largest_image_step * self.images.numel() ** 0.5),
            (self.log_lr, config.lr_syn_lr, config.largest_rate_step),
        ):
            if rate > 0:
                nn.utils.clip_grad_norm_([parameter], largest / rate)


@dataclass
class Gradients:
    """A weighted sum of matching gradients: pictures (P, K, H, W), labels (P, C), log_lr ()."""

    pictures: Tensor
    labels: Tensor
    log_lr: Tensor

    @classmethod
    def zeros(cls, synthetic: SyntheticSet) -> "Gradients":
        pictures = torch.zeros_like(synthetic.pictures().detach())
        return cls(pictures, torch.zeros_like(synthetic.labels), torch.zeros_like(synthetic.log_lr))

    def add(self, match: Match, weight: float, syn_lr: Tensor) -> None:
        self.pictures += weight * match.images_grad
        self.labels += weight * match.labels_grad
        self.log_lr += weight * syn_lr * match.lr_grad  # dl/dlog(alpha) = alpha dl/dalpha
