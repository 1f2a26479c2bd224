"""Batch norm, ReLU and 2x2 average pooling as one layer, on the kernels of ``fused.c``.

To the kernels a batch is one image of B H rows: channels-last, it is the same memory, and their
instance norm of that image is the batch norm. Pooling stays within each image where H is even.

B batch, C channels, H x W size before pooling; u (B, C, H, W), y (B, C, H/2, W/2).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ltdd_ray.nn.kernels.build import kernels_for
from ltdd_ray.nn.kernels.convolution import channels_last
from ltdd_ray.nn.kernels.fused import norm_relu_pool


class BatchNormReluPool(nn.BatchNorm2d):
    """The layer, differentiable twice. In evaluation mode it takes the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        batch, _, height, width = input.shape
        fits = height % 2 == 0 and width >= 2
        if not (self.training and fits and kernels_for(input) is not None):
            return avg_pool2d(super().forward(input).relu(), 2)
        rows = _with_images(channels_last(input), 1)
        y, stats = norm_relu_pool(rows, self.weight, self.bias)
        self._update(stats, batch * height * width)
        return _with_images(y, batch)

    @torch.no_grad()
    def _update(self, stats: Tensor, count: int) -> None:
        """Move the running averages to the mean and 1 / sqrt(var + eps) in ``stats`` (2, 1, C)."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        mean, inverse_root = stats[:, 0].to(self.running_mean)
        variance = (inverse_root**-2 - self.eps) * (count / (count - 1))  # the unbiased estimate
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


def _with_images(tensor: Tensor, images: int) -> Tensor:
    """(B, C, H, W), channels-last, as ``images`` of C channels and width W in the same memory."""
    _, channels, _, width = tensor.shape
    return tensor.permute(0, 2, 3, 1).view(images, -1, width, channels).permute(0, 3, 1, 2)
