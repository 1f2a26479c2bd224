"""Trajectory-guided distribution matching (TGDD, AAAI 2026): embeddings of stored experts.

    l = sum_k || mean_i f(A_k(x_ki)) - mean_j f(A_k(r_kj)) ||^2 + w sum_k mean_i CE(x_ki, k)

f is the backbone of a snapshot of an expert's trajectory, drawn anew for every update, in place of
IDM's queue of networks. The cross-entropy is that of the same snapshot's classifier; TGDD takes a
later snapshot of the trajectory, which would need a second pass. Two choices of this project: the
images start as those of trajectory matching do, and the experts label them, at the end and for each
check.

The letters are those of ``dm.py``; w is ``distribution.class_weight``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.distribution.cosine_adam import CosineAdam
from ltdd_ray.distill.distribution.dm import class_aware_loss
from ltdd_ray.distill.trajectory.start import expert_logits, initial_set, soft_label_logits
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.nn.networks import Network
from ltdd_ray.store import TrajectoryStore


class TrajectoryGuidedMatching(CosineAdam):
    """DM under the experts' snapshots. Its only state are the images and Adam's averages."""

    def __init__(self, config: RunConfig, data: PreparedData, device: torch.device) -> None:
        """Raises ``UserError`` where the store lacks an expert of the config."""
        self._flat = expert_network(config, data.train, 0)
        self._flat.model.to(device)
        expected, cache_bytes = expectation(config, data.train), int(config.compute.cache_gb * 1e9)
        self._store = TrajectoryStore.open(
            config.store_uri, expect=expected, cache_bytes=cache_bytes
        )
        start, self._sentences = initial_set(config, data, self._flat, self._store, device)
        self._start = start.images.detach()
        super().__init__(config, data, device)

    def initial(self, wanted: Sequence[int]) -> Tensor:
        """The images (M, K, H, W) that trajectory matching starts from."""
        return self._start

    def describe_initial(self, data: PreparedData) -> list[str]:
        return self._sentences

    def network(self, optimiser: Optimizer, update: int) -> Network:
        """A snapshot: expert and epoch are drawn uniformly."""
        epochs = self.config.snapshot_epochs
        draw = generator(self.config.seed, "distribution-snapshot", update)
        expert = int(torch.randint(self.config.experts.count, (), generator=draw))
        epoch = int(torch.randint(epochs.start, epochs.stop, (), generator=draw))
        theta = self._store.theta(expert, "representation", epoch)
        network = self.fresh_network(0)
        views = self._flat.views(theta.to(self.real.device, torch.float32))
        for name, parameter in network.named_parameters():
            parameter.data.copy_(views[name])
        return network.requires_grad_(False)

    def loss(
        self,
        network: Network,
        synthetic: Tensor,
        classes: Tensor,
        real: Tensor,
        real_classes: Tensor,
        update: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over classes (), and its two terms."""
        with torch.no_grad():
            distance = self.distance(self.embed(network, real).compared, real_classes, update)
        weight = self.config.distill.distribution.class_weight
        pictures = self.embed(network, synthetic)
        return class_aware_loss(network, pictures, classes, distance, self.num_classes, weight)

    @torch.no_grad()
    def soft_labels(self) -> Tensor:
        """(P, C), what the experts at their last epoch think of the present pictures."""
        logits = expert_logits(self.config, self._flat, self._store, self.pictures(), True)
        classes = self.picture_classes
        return soft_label_logits(self.config, classes, self.num_classes, logits).softmax(-1)
