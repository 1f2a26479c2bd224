"""Gradient matching (DC; Zhao, Mopuri & Bilen, ICLR 2021): equal gradients of the loss per class.

    l = sum_k sum_layers sum_rows 1 - cos(grad_W mean_i CE(x_ki, k), grad_W mean_j CE(r_kj, k))

W are the weights of a convolution or of the classifier. A row holds the weights of one output. As
in the authors' code, biases and norms do not count. A network meets several updates of the images
and is trained on the pictures between them, then a fresh one takes its place.

Two deviations: images start as random real ones as in DM, not as noise, and both sides of a class
are augmented alike, which is DSA (Zhao & Bilen, ICML 2021). The config's ``augmentation: ""`` gives
DC.

The letters are those of ``dm.py``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.distribution.dm import DistributionMatching
from ltdd_ray.nn.networks import Network

EPS = 1e-6  # of the authors' code, added to the product of norms


class GradientMatching(DistributionMatching):
    """DM's images and batches under a distance of gradients.

    Network n serves the updates from n * ``updates_per_network``. It is part of the state. Its SGD
    has no momentum, hence no state.
    """

    def __init__(self, config: RunConfig, data: PreparedData, device: torch.device) -> None:
        super().__init__(config, data, device)
        self.settings = config.distill.distribution.gradient
        self.trained = self.fresh_network(0)

    def network(self, optimiser: Optimizer, update: int) -> Network:
        number, position = divmod(update, self.settings.updates_per_network)
        if position == 0:
            self.trained.load_state_dict(self.fresh_network(number).state_dict())
        self.trained.train()
        return self.trained

    def loss(
        self,
        network: Network,
        synthetic: Tensor,
        classes: Tensor,
        real: Tensor,
        real_classes: Tensor,
        update: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.config.model.norm == "batch":
            _fix_statistics(network, real)
        weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
        total = synthetic.new_zeros(())
        for k in range(self.num_classes):
            mine, true = classes == k, real_classes == k
            target = grad(cross_entropy(network(real[true]), real_classes[true]), weights)
            entropy = cross_entropy(network(synthetic[mine]), classes[mine])
            total = total + row_distance(grad(entropy, weights, create_graph=True), target)
        return total, {}

    def between_updates(self, optimiser: Optimizer, update: int) -> None:
        """Train the network on the pictures, if another update will meet it."""
        settings = self.settings
        if (update + 1) % settings.updates_per_network == 0:
            return
        pictures, classes = self.pictures().detach(), self.picture_classes
        sgd = SGD(self.trained.parameters(), settings.lr)
        draw = generator(self.config.seed, "distribution-training", update)
        self.trained.train()
        for _ in range(settings.epochs):
            order = torch.randperm(len(pictures), generator=draw).to(pictures.device)
            for index in order.split(settings.batch_size):
                sgd.zero_grad()
                seen = self.augment(pictures[index], draw)
                cross_entropy(self.trained(seen), classes[index]).backward()
                sgd.step()
        sgd.zero_grad()


def row_distance(found: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """The sum () over layers and rows of 1 - cos; layers (outputs, ...) of gradients."""
    total = found[0].new_zeros(())
    for one, other in zip(found, target):
        one, other = one.flatten(1), other.flatten(1)
        norms = one.norm(dim=1) * other.norm(dim=1)
        total = total + (1 - (one * other).sum(1) / (norms + EPS)).sum()
    return total


def _fix_statistics(network: Network, real: Tensor) -> None:
    """Let batch norm add ``real``, all classes together, to its running averages, and use those.

    With momentum 0.1, as in the authors' code. A batch of one class would otherwise be normalised
    by itself.
    """
    with torch.no_grad():
        network.train()(real)
    network.eval()
