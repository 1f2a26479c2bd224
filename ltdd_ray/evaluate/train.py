"""Train one network from scratch on a small set and measure it (paper, Sec. 5.1).

SGD at the set's own rate, momentum and weight decay as configured, a tenth of the rate from half of the epochs on, DSA on,
stored soft labels. M images, B batch, C classes.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR

from ltdd_ray.augment import Augmentation
from ltdd_ray.config import EvaluateConfig, RunConfig
from ltdd_ray.data.prepare import Images, PreparedData, model_space
from ltdd_ray.device import default_device
from ltdd_ray.errors import NonFiniteLossError
from ltdd_ray.evaluate.sets import TrainingSet, training_set
from ltdd_ray.losses import soft_cross_entropy
from ltdd_ray.nn.networks import build_network
from ltdd_ray.seeding import derive_seed, generator


@dataclass(frozen=True)
class NetworkResult:
    """Accuracies as shares 0..1: ``per_class`` (C,), and their mean, so that every class counts alike in any evaluation set."""

    set_name: str
    network: int
    accuracy: float
    per_class: tuple[float, ...]
    seconds: float

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> "NetworkResult":
        return cls(**{**data, "per_class": tuple(data["per_class"])})


@dataclass(frozen=True)
class EvaluationReport:
    """Progress: ``epoch`` of ``epochs`` of one network is done."""

    set_name: str
    network: int
    epoch: int
    epochs: int


def evaluate_network(
    config: RunConfig, data: PreparedData, set_name: str, network: int, on_epoch: Callable[[EvaluationReport], None]
) -> NetworkResult:
    """Train network number ``network`` on the set called ``set_name`` and measure it on the evaluation images.

    Equal numbers start from equal weights, whatever the set.
    """
    began = time.monotonic()
    device = default_device()
    given = training_set(config, data, set_name, network).to(device)
    seed = derive_seed(config.seed, "evaluation-network", network)
    model = build_network(config.model, data.train.image_shape, data.train.num_classes, seed).to(device)

    def report(epoch: int) -> None:
        on_epoch(EvaluationReport(set_name, network, epoch, config.evaluate.epochs))

    train_network(model, given, config.evaluate, Augmentation(config.augmentation), derive_seed(seed, set_name), report)
    images, labels = model_space(data.evaluation, data.normalisation, device)
    accuracy, per_class = measure(model, images, labels)
    return NetworkResult(set_name, network, accuracy, per_class, time.monotonic() - began)


def train_network(
    model: nn.Module,
    given: TrainingSet,
    settings: EvaluateConfig,
    augment: Augmentation,
    seed: int,
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Train ``model`` in place. Raises ``NonFiniteLossError`` if its loss leaves the finite numbers."""
    model.train()
    optimiser = SGD(model.parameters(), given.learning_rate, settings.momentum, weight_decay=settings.weight_decay)
    schedule = MultiStepLR(optimiser, [settings.epochs // 2 + 1], gamma=0.1)
    loss = torch.zeros(())
    for epoch in range(1, settings.epochs + 1):
        draw = generator(seed, "epoch", epoch)
        for index in torch.randperm(len(given.images), generator=draw).split(settings.batch_size):
            index = index.to(given.images.device)
            loss = soft_cross_entropy(model(augment(given.images[index], draw)), given.soft_labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        on_epoch(epoch)
    loss = loss.detach()
    if not torch.isfinite(loss):
        raise NonFiniteLossError(
            f"the evaluation network's loss is {float(loss)} at rate {given.learning_rate:.3g}; lower evaluate.lr"
        )


@torch.no_grad()
def measure(model: nn.Module, images: Images, labels: Tensor) -> tuple[float, tuple[float, ...]]:
    """Share of right predictions per class (C,) over ``images`` (N, K, H, W), and its mean over classes."""
    model.eval()
    logits = torch.cat([model(part) for part in images.split(512)])
    right = (logits.argmax(-1) == labels).double()
    counts = torch.bincount(labels, minlength=logits.shape[1])
    hits = torch.zeros(logits.shape[1], dtype=torch.float64, device=right.device).index_add(0, labels, right)
    per_class = hits / counts
    return float(per_class.mean()), tuple(per_class.tolist())
