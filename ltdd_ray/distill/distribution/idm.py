"""Improved distribution matching (IDM; Zhao et al., CVPR 2023): DM with three changes.

- Partitioning and expansion: an image is a mosaic of f x f pictures.
- Networks come from a queue and are trained between updates, so their embeddings separate the
  classes to some degree. They are trained on real images, as published, or on the pictures.
- Class-aware regularisation: the pictures' cross-entropy under that network, weighted by the
  network's accuracy: in its own training on real images, or on the update's real batch.

IDM's code starts with four networks in the queue; here the first update has one.

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
    ``size`` younger ones are there. State are the weights and, in float64 (size,), how many images
    each network ``saw`` in its training on real images and how many it ``knew``; membership follows
    from the update.
    """

    saw: Tensor
    knew: Tensor

    def __init__(self, config: RunConfig, data: PreparedData, device: torch.device) -> None:
        super().__init__(config, data, device)
        self.settings = config.distill.distribution.queue
        self.slot = 0  # of the network that embeds in this update
        self.slots = nn.ModuleList(
            self.fresh_network(number) for number in range(self.settings.size)
        )
        for name in ("saw", "knew") if self.settings.train_on == "real" else ():
            self.register_buffer(name, torch.zeros(self.settings.size, dtype=torch.float64))

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
        self.slot = self._draw(update, "distribution-embedding", 1)[0]
        return self._network_in(self.slot)

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
            known = self._share_known(network, images.last, real_classes)
            distance = self.distance(images.compared, real_classes, update)
        weight = self.config.distill.distribution.class_weight * known
        pictures = self.embed(network, synthetic)
        return class_aware_loss(network, pictures, classes, distance, self.num_classes, weight)

    def between_updates(self, optimiser: Optimizer, update: int) -> None:
        """Train members of the queue."""
        pictures, classes = self.pictures().detach(), self.picture_classes
        on_real, seed = self.settings.train_on == "real", self.config.seed
        images, labels = (self.real, self.labels) if on_real else (pictures, classes)
        drawn = self._draw(update, "distribution-training", self.settings.trained)
        for turn, slot in enumerate(drawn):
            network = self._network_in(slot)
            draw = generator(seed, "distribution-step", update, turn)
            for _ in range(self.settings.steps):
                index = torch.randperm(len(images), generator=draw)[: self.settings.batch_size]
                index = index.to(images.device)
                batch = images[index] if on_real else self.augment(images[index], draw)
                logits = network(batch)
                cross_entropy(logits, labels[index]).backward()
                optimiser.step()
                optimiser.zero_grad()
                if on_real:
                    self.saw[slot] += len(index)
                    self.knew[slot] += (logits.argmax(1) == labels[index]).sum()

    def _share_known(self, network: Network, features: Tensor, classes: Tensor) -> Tensor:
        """The weight () of the pictures' cross-entropy; features (B, F) of the real batch."""
        if self.settings.train_on == "real":
            return (self.knew[self.slot] / self.saw[self.slot].clamp(min=1)).float()
        return (network.classifier(features).argmax(1) == classes).float().mean()

    def _network_in(self, slot: int) -> Network:
        return self.slots[slot]  # pyright: ignore[reportReturnType]

    def _draw(self, update: int, purpose: str, count: int) -> list[int]:
        """``count`` different slots among those of the queue's members."""
        members = self.members_at(update)
        chosen = torch.randperm(
            len(members), generator=generator(self.config.seed, purpose, update)
        )[:count]
        return [members[int(place)] % self.settings.size for place in chosen]

    def _replace_oldest(self, optimiser: Optimizer, number: int) -> None:
        slot = number % self.settings.size
        network = self._network_in(slot)
        network.load_state_dict(self.fresh_network(number).state_dict())
        for parameter in network.parameters():
            optimiser.state.pop(parameter, None)
        if self.settings.train_on == "real":
            self.saw[slot] = self.knew[slot] = 0
