"""Improved distribution matching (IDM; Zhao et al., CVPR 2023): DM with three changes.

- Partitioning and expansion: an image is a mosaic of f x f pictures.
- Networks come from a queue and are trained between updates, so their embeddings separate the
  classes to some degree.
- Class-aware regularisation: the pictures' cross-entropy under that network, weighted by the
  network's accuracy on the real batch.

The letters are those of ``dm.py``.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.distribution.dm import DistributionMatching, class_aware_loss
from ltdd_ray.nn.networks import Network


class ImprovedDistributionMatching(DistributionMatching):
    """DM whose state also holds the queue of networks.

    Network n enters at update n * ``enter_every``, into slot n mod ``size``, and leaves when
    ``size`` younger ones are there. Only the weights are state; membership follows from the update.
    """

    def __init__(self, config: RunConfig, data: PreparedData, device: torch.device) -> None:
        super().__init__(config, data, device)
        self.settings = config.distill.distribution.queue
        self.slots = nn.ModuleList(
            self.fresh_network(number) for number in range(self.settings.size)
        )

    def members_at(self, update: int) -> range:
        """The numbers of the queue's networks at ``update``, oldest first."""
        entered = update // self.settings.enter_every + 1
        return range(max(0, entered - self.settings.size), entered)

    def optimiser(self) -> Optimizer:
        optimiser, queue = super().optimiser(), self.settings
        group = {
            "params": list(self.slots.parameters()),
            "lr": queue.lr,
            "momentum": queue.momentum,
        }
        optimiser.add_param_group({**group, "weight_decay": queue.weight_decay})
        return optimiser

    def network(self, optimiser: Optimizer, update: int) -> Network:
        newest = self.members_at(update)[-1]
        if update % self.settings.enter_every == 0 and newest >= self.settings.size:
            self._replace_oldest(optimiser, newest)
        return self._draw(update, "distribution-embedding", 1)[0]

    def loss(
        self,
        network: Network,
        synthetic: Tensor,
        classes: Tensor,
        real: Tensor,
        real_classes: Tensor,
        update: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            images = self.embed(network, real)
            known = (network.classifier(images.last).argmax(1) == real_classes).float().mean()
            distance = self.distance(images.compared, real_classes, update)
        weight = self.config.distill.distribution.class_weight * known
        pictures = self.embed(network, synthetic)
        return class_aware_loss(network, pictures, classes, distance, self.num_classes, weight)

    def between_updates(self, optimiser: Optimizer, update: int) -> None:
        """Train members of the queue on the pictures."""
        pictures, classes = self.pictures().detach(), self.picture_classes
        for turn, network in enumerate(
            self._draw(update, "distribution-training", self.settings.trained)
        ):
            draw = generator(self.config.seed, "distribution-step", update, turn)
            for _ in range(self.settings.steps):
                index = torch.randperm(len(pictures), generator=draw)[
                    : self.settings.batch_size
                ].to(pictures.device)
                cross_entropy(
                    network(self.augment(pictures[index], draw)), classes[index]
                ).backward()
                optimiser.step()
                optimiser.zero_grad()

    def _draw(self, update: int, purpose: str, count: int) -> list[Network]:
        members = self.members_at(update)
        chosen = torch.randperm(
            len(members), generator=generator(self.config.seed, purpose, update)
        )[:count]
        return [self.slots[members[int(place)] % self.settings.size] for place in chosen]  # pyright: ignore[reportReturnType]

    def _replace_oldest(self, optimiser: Optimizer, number: int) -> None:
        slot = self.slots[number % self.settings.size]
        slot.load_state_dict(self.fresh_network(number).state_dict())
        for parameter in slot.parameters():
            optimiser.state.pop(parameter, None)
