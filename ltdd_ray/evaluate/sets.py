"""What a network is trained on: the distilled set, the same in 8 bits, the set before its first update, or a random selection.

M images, C classes, K x H x W image shape.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.seeding import generator


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Images (M, K, H, W) in model space, soft labels (M, C), and the rate to train with."""

    images: Tensor
    soft_labels: Tensor
    learning_rate: float

    def to(self, device: torch.device) -> "TrainingSet":
        return TrainingSet(self.images.to(device), self.soft_labels.to(device), self.learning_rate)


def training_set(config: RunConfig, data: PreparedData, name: str, network: int) -> TrainingSet:
    """The set called ``name`` in ``evaluate.sets``. A random selection is drawn anew for every network, others are stored."""
    if name == "random":
        index = random_selection(data.train, config.distill.ipc, config.seed, network)
        images = data.normalisation.apply(torch.tensor(data.train.images[index]))
        labels = one_hot(torch.tensor(data.train.labels[index], dtype=torch.int64), data.train.num_classes)
        return TrainingSet(images, labels.float(), config.evaluate.lr)
    if name == "distilled_8bit":
        stored = DistilledSet.load(config.folder / "distilled").in_8_bits()
    else:
        stored = DistilledSet.load(config.folder / "distilled", name)
    return TrainingSet(stored.images, stored.soft_labels, stored.learning_rate)


def random_selection(train: LongTailedDataset, ipc: int, seed: int, network: int) -> list[int]:
    """``ipc`` image indices per class without replacement; a class with fewer images gives all of them, again and again."""
    chosen: list[int] = []
    for k in range(train.num_classes):
        members = torch.nonzero(torch.tensor(train.labels == k))[:, 0]
        order = members[torch.randperm(len(members), generator=generator(seed, "random-selection", network, k))]
        chosen += order.repeat(-(-ipc // len(order)))[:ipc].tolist()
    return chosen
