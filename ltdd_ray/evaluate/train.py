"""Train one network from scratch on a small set, or on all images, and measure it (paper, Sec. 5.1).

SGD at the set's own rate, momentum and weight decay as configured, a tenth of the rate from half of the epochs on, DSA on,
stored soft labels. M images, B batch, C classes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR

from ltdd_ray.common.device import default_device, to_device
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.common.seeding import derive_seed, generator
from ltdd_ray.config import EvaluateConfig, RunConfig
from ltdd_ray.data.prepare import Images, PreparedData, model_space
from ltdd_ray.evaluate.full_data import FULL_DATA, train_on_all
from ltdd_ray.evaluate.sets import TrainingSet, epochs_on, training_set
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.dispatch import is_convnet, network_passes
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import soft_cross_entropy
from ltdd_ray.nn.networks import build_network


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Over the images of each class (C,): the share predicted right, the mean probability of the predicted class, and that of
    the true one. ``accuracy`` is the mean over classes, so that every class counts alike in any evaluation set."""

    accuracy: float
    per_class: tuple[float, ...]
    confidence: tuple[float, ...]
    true_confidence: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class NetworkResult(Measurement):
    """One trained network of the architecture labelled ``model``, and the norm of each class's row of its classifier (C,).

    It was trained on so many ``images``, with ``soft`` or ``hard`` labels; ``tau`` is what these were calibrated with, if at all.
    """

    set_name: str
    model: str
    network: int
    images: int
    labels: Literal["soft", "hard"]
    classifier_norms: tuple[float, ...]
    tau: float | None
    seconds: float

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "NetworkResult":
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class EvaluationReport:
    """Progress: ``epoch`` of ``epochs`` of one network is done."""

    set_name: str
    model: str
    network: int
    epoch: int
    epochs: int


def evaluate_network(
    config: RunConfig,
    data: PreparedData,
    set_name: str,
    model: str,
    network: int,
    on_epoch: Callable[[EvaluationReport], None],
) -> NetworkResult:
    """Train network number ``network`` of the architecture labelled ``model`` on the set called ``set_name`` and measure it on the
    evaluation images.

    Equal numbers start from equal weights, whatever the set. The labels are those of the set: nothing else is asked about an image.
    """
    began = time.monotonic()
    device = default_device()
    seed = derive_seed(config.seed, "evaluation-network", network)
    architecture = config.evaluation_models[model]
    net = build_network(architecture, data.train.image_shape, data.train.num_classes, seed).to(
        device
    )

    def report(epoch: int) -> None:
        on_epoch(EvaluationReport(set_name, model, network, epoch, epochs_on(config, set_name)))

    if set_name in FULL_DATA:
        images, labels = model_space(data.train, data.normalisation, device)
        train_on_all(net, set_name, images, labels, config, derive_seed(seed, "full-data"), report)
        given_facts = {"images": len(images), "labels": "hard", "tau": None}
    else:
        given = training_set(config, data, set_name, network).to(device)
        train_network(
            net,
            given,
            config.evaluate,
            Augmentation(config.augmentation),
            derive_seed(seed, set_name),
            report,
        )
        given_facts = {
            "images": len(given.images),
            "labels": "hard" if given.hard else "soft",
            "tau": given.tau,
        }
    images, labels = model_space(data.evaluation, data.normalisation, device)
    return NetworkResult(
        **asdict(measure(net, images, labels)),
        set_name=set_name,
        model=model,
        network=network,
        classifier_norms=tuple(net.classifier.weight.detach().norm(dim=1).tolist()),
        **given_facts,
        seconds=time.monotonic() - began,
    )


def network_memory_probe(
    config: RunConfig, data: PreparedData, tasks: Sequence[tuple[str, str, int]]
) -> None:
    """Take the memory of the largest of ``tasks`` on this process's device: each set and architecture once, for one epoch."""
    settings = config.evaluate
    once = {"epochs": 1, "full_data": settings.full_data.model_copy(update={"epochs": 1})}
    short = config.model_copy(update={"evaluate": settings.model_copy(update=once)})
    # A re-trained classifier takes what its network took, and its epochs are those of the experts, whose store they name.
    kinds = {("full_ce" if name == "full_decoupled" else name, model) for name, model, _ in tasks}
    for name, model in sorted(kinds):
        evaluate_network(short, data, name, model, 0, lambda report: None)


def train_network(
    model: nn.Module,
    given: TrainingSet,
    settings: EvaluateConfig,
    augment: Augmentation,
    seed: int,
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Train ``model`` in place. Raises ``NonFiniteLossError`` if it leaves the finite numbers."""
    model.train()
    optimiser = SGD(
        model.parameters(),
        given.learning_rate,
        settings.momentum,
        weight_decay=settings.weight_decay,
    )
    schedule = MultiStepLR(optimiser, [settings.epochs // 2 + 1], gamma=0.1)
    leave_gradient = _gradient_of(model)
    for epoch in range(1, settings.epochs + 1):
        draw = generator(seed, "epoch", epoch)
        for index in torch.randperm(len(given.images), generator=draw).split(settings.batch_size):
            index = to_device(index, given.images.device)
            leave_gradient(augment(given.images[index], draw), given.soft_labels[index])
            optimiser.step()
        schedule.step()
        if not torch.stack([parameter.isfinite().all() for parameter in model.parameters()]).all():
            raise NonFiniteLossError(
                f"the evaluation network left the finite numbers in epoch {epoch} at rate {given.learning_rate:.3g}; "
                "lower evaluate.lr"
            )
        on_epoch(epoch)


def _gradient_of(model: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """A function of images (B, K, H, W) and soft labels (B, C) that leaves their gradient in the parameters' ``.grad``."""

    def by_autograd(images: Tensor, soft_label: Tensor) -> None:
        model.zero_grad()
        soft_cross_entropy(model(images), soft_label).backward()

    if not is_convnet(model):
        return by_autograd  # through the module itself, whose batch norm keeps running averages
    flat, named = FlatModel(model), dict(model.named_parameters())
    passes = network_passes(flat, soft_cross_entropy)

    def by_hand(images: Tensor, soft_label: Tensor) -> None:
        for name, gradient in flat.views(
            passes.gradient(flat.initial(), images, soft_label)
        ).items():
            named[name].grad = gradient

    return by_hand


@torch.no_grad()
def measure(model: nn.Module, images: Images, labels: Tensor) -> Measurement:
    """What ``model`` predicts for ``images`` (N, K, H, W) against their ``labels`` (N,)."""
    model.eval()
    logits = torch.cat([model(part) for part in images.split(512)])
    probability = logits.softmax(-1)
    right = logits.argmax(-1) == labels
    judged = torch.stack(
        [right, probability.amax(-1), probability.gather(1, labels[:, None])[:, 0]], 1
    ).double()  # (N, 3)
    counts = torch.bincount(labels, minlength=logits.shape[1])
    sums = torch.zeros(logits.shape[1], 3, dtype=torch.float64, device=judged.device).index_add(
        0, labels, judged
    )
    per_class, confidence, true_confidence = map(tuple, (sums / counts[:, None]).T.tolist())
    accuracy = sum(per_class) / len(per_class)
    return Measurement(
        accuracy=accuracy,
        per_class=per_class,
        confidence=confidence,
        true_confidence=true_confidence,
    )
