"""Train one network from scratch on a set of images, and measure it (paper, Sec. 5.1).

SGD at the set's own rate, with a tenth of it in the second half of the epochs; momentum and weight
decay from the config; DSA; the stored soft labels, under cross-entropy unless the config adds a
squared error. M images, B batch, C classes.
"""

import math
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
from ltdd_ray.evaluate.confusion import Confusion, count_confusion
from ltdd_ray.evaluate.full_data import FULL_DATA, train_on_all
from ltdd_ray.evaluate.sets import TrainingSet, epochs_on, training_set
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.dispatch import is_convnet, network_passes
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import soft_cross_entropy, soft_label_loss
from ltdd_ray.nn.networks import build_network
from ltdd_ray.nn.passes import Loss


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a network predicts, as means over the images of each class (C,).

    ``per_class`` is the share predicted correctly, ``confidence`` the probability of the predicted
    class, ``true_confidence`` that of the true one; NaN for a class without images. ``accuracy`` is
    balanced accuracy, the mean of ``per_class`` over the classes that have images, so large and
    small classes have the same weight. ``accuracy_over_images`` is the share of all images that is
    predicted correctly. ``confusion`` is None in results of versions that did not count it.
    """

    accuracy: float
    accuracy_over_images: float
    per_class: tuple[float, ...]
    confidence: tuple[float, ...]
    true_confidence: tuple[float, ...]
    confusion: Confusion | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkResult(Measurement):
    """A trained network and what was measured with it.

    ``model`` is the label of its architecture, ``images`` the number that it was trained on,
    ``classifier_norms`` (C,) the norm of each class's classifier row. ``tau`` is the logit
    adjustment of calibrated labels, else None.
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
        """Plain values; None for NaN, which JSON lacks."""
        return {
            key: [None if share != share else share for share in value]
            if isinstance(value, tuple)
            else value
            for key, value in asdict(self).items()
            if key != "confusion" or value is not None
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "NetworkResult":
        values: dict[str, Any] = {
            key: tuple(math.nan if share is None else share for share in value)
            if isinstance(value, list)
            else value
            for key, value in data.items()
        }
        if pairs := values.get("confusion"):
            values["confusion"] = tuple(map(tuple, pairs))
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
    """Train network number ``network`` on the set ``set_name`` and measure it.

    ``model`` is the label of its architecture. Networks of one number start from equal weights on
    every set. Labels are the stored ones: no other network labels an image during training.
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
            Augmentation(config.augmentation if given.augmented else ""),
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
    """Reach the peak memory of ``tasks`` on this device: one epoch of each set and architecture."""
    settings = config.evaluate
    once = {"epochs": 1, "full_data": settings.full_data.model_copy(update={"epochs": 1})}
    short = config.model_copy(update={"evaluate": settings.model_copy(update=once)})
    # A re-trained classifier needs no more memory than its network.
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
    """Train ``model`` in place. Raises ``NonFiniteLossError`` where a weight is not finite."""
    model.train()
    optimiser = SGD(
        model.parameters(),
        given.learning_rate,
        settings.momentum,
        weight_decay=settings.weight_decay,
    )
    schedule = MultiStepLR(optimiser, [settings.epochs // 2 + 1], gamma=0.1)
    loss = soft_label_loss(settings.ce_weight, settings.mse_weight)
    leave_gradient = _gradient_of(model, soft_cross_entropy if given.hard else loss)
    for epoch in range(1, settings.epochs + 1):
        draw = generator(seed, "epoch", epoch)
        for index in torch.randperm(len(given.images), generator=draw).split(settings.batch_size):
            index = to_device(index, given.images.device)
            leave_gradient(augment(given.images[index], draw), given.soft_labels[index])
            optimiser.step()
        schedule.step()
        if not torch.stack([parameter.isfinite().all() for parameter in model.parameters()]).all():
            raise NonFiniteLossError(
                f"epoch {epoch}: a weight of the evaluation network is not finite at rate "
                f"{given.learning_rate:.3g}; {given.lower_rate}"
            )
        on_epoch(epoch)


def _gradient_of(model: nn.Module, loss: Loss) -> Callable[[Tensor, Tensor], None]:
    """A function of images (B, K, H, W) and soft labels (B, C) that fills ``.grad``."""

    def by_autograd(images: Tensor, soft_label: Tensor) -> None:
        model.zero_grad()
        loss(model(images), soft_label).backward()

    if not is_convnet(model):
        return by_autograd  # the module itself updates the running averages of its batch norm
    flat, named = FlatModel(model), dict(model.named_parameters())
    passes = network_passes(flat, loss)

    def by_hand(images: Tensor, soft_label: Tensor) -> None:
        for name, gradient in flat.views(
            passes.gradient(flat.initial(), images, soft_label)
        ).items():
            named[name].grad = gradient

    return by_hand


@torch.no_grad()
def measure(model: nn.Module, images: Images, labels: Tensor) -> Measurement:
    """Compare the predictions for ``images`` (N, K, H, W) with their ``labels`` (N,)."""
    model.eval()
    logits = torch.cat([model(part) for part in images.split(512)])
    probability = logits.softmax(-1)
    predicted = logits.argmax(-1)
    right = predicted == labels
    of_true = probability.gather(1, labels[:, None])[:, 0]
    values = torch.stack([right, probability.amax(-1), of_true], 1).double()  # (N, 3)
    counts = torch.bincount(labels, minlength=logits.shape[1])
    sums = values.new_zeros(logits.shape[1], 3).index_add(0, labels, values)
    per_class, confidence, true_confidence = map(tuple, (sums / counts[:, None]).T.tolist())
    measured = [share for share, count in zip(per_class, counts.tolist()) if count]
    return Measurement(
        accuracy=sum(measured) / len(measured),
        accuracy_over_images=float(right.double().mean()),
        per_class=per_class,
        confidence=confidence,
        true_confidence=true_confidence,
        confusion=count_confusion(labels, predicted),
    )
