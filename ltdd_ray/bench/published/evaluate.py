"""Evaluation as published: networks trained from scratch on the synthetic set by a DataLoader.

Protocol of the paper (Sec. 5.1): SGD at the learned rate with momentum and weight decay, a tenth of
the rate in the second half of the epochs, differentiable augmentation, soft labels.
M images, C classes.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader, TensorDataset


def train_network(
    model: nn.Module,
    images: Tensor,
    soft_labels: Tensor,
    augment: Callable[[Tensor], Tensor],
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Train ``model`` in place on images (M, K, H, W) and soft labels (M, C) on its device."""
    loader = DataLoader(TensorDataset(images, soft_labels), batch_size, shuffle=True)
    optimiser = SGD(model.parameters(), lr, momentum, weight_decay=weight_decay)
    schedule = MultiStepLR(optimiser, [epochs // 2 + 1], gamma=0.1)
    model.train()
    for _ in range(epochs):
        for batch, soft_label in loader:
            loss = cross_entropy(model(augment(batch)), soft_label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
