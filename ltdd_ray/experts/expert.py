"""Train the missing stages of one expert and write them to the store."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from ltdd_ray.common.device import default_device
from ltdd_ray.common.spacing import evenly_spaced
from ltdd_ray.config import RepresentationStage, RunConfig
from ltdd_ray.config.identity import store_fingerprint
from ltdd_ray.data.prepare import Images, PreparedData, model_space
from ltdd_ray.experts.debiased import debiased_stage
from ltdd_ray.experts.plan import (
    TrajectoryTask,
    expectation,
    expert_network,
    trajectory_tasks,
)
from ltdd_ray.experts.train import Epoch, classifier_stage, representation_stage
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import hard_label_loss
from ltdd_ray.store import Stage, TrajectoryHeader, TrajectoryStore, TrajectoryWriter


@dataclass(frozen=True)
class EpochReport:
    """Progress of one expert: ``epoch`` of the ``epochs`` epochs of ``stage`` is finished."""

    expert: int
    stage: Stage
    epoch: int
    epochs: int
    images_per_second: float
    loss: float
    accuracy: float


def run_expert(
    config: RunConfig, data: PreparedData, expert: int, on_epoch: Callable[[EpochReport], None]
) -> None:
    """Train the missing stages of ``expert`` on this process's device.

    A stage is in the store whole or not at all. A killed run repeats at most its current stage.
    """
    device = default_device()
    flat = expert_network(config, data.train, expert)
    flat.model.to(device)
    store = TrajectoryStore.open(
        config.store_uri, expect=expectation(config, data.train), create=True
    )
    tasks = trajectory_tasks(config, data.train, expert)
    missing = {task.stage for task in store.missing(tasks)}
    if not missing:
        return
    images, labels = model_space(data.train, data.normalisation, device)
    evaluator = _Evaluator(flat, *model_space(data.evaluation, data.normalisation, device))
    stages, augment = config.experts, Augmentation(config.augmentation)

    if "representation" in missing:
        run_stage = first_stage(stages.representation, labels)
        epochs = run_stage(
            stages.representation, flat, images, labels, augment, config.seed, expert
        )
        timed = _reporting(
            epochs, expert, "representation", stages.representation.epochs, len(labels), on_epoch
        )
        kept = _kept_epochs(timed, stages.representation.epochs, stages.keep_epochs)
        _write_stage(config, data, flat, tasks[0], kept, evaluator, None)
    if "classifier" in missing:
        store = TrajectoryStore.open(config.store_uri, expect=expectation(config, data.train))
        theta = store.theta(expert, "representation").to(device, torch.float32)
        epochs = classifier_stage(
            stages.classifier, flat, theta, images, labels, augment, config.seed, expert
        )
        size = data.train.num_classes * int(data.train.class_counts.max())
        timed = _reporting(epochs, expert, "classifier", stages.classifier.epochs, size, on_epoch)
        _write_stage(config, data, flat, tasks[1], timed, evaluator, flat.split(theta)[0])


def first_stage(stage: RepresentationStage, labels: Tensor) -> Callable[..., Iterator[Epoch]]:
    """What trains the representation stage under its criterion.

    It takes the arguments of :func:`~ltdd_ray.experts.debiased.debiased_stage`.
    """
    if stage.criterion == "debiased":
        return debiased_stage
    return partial(representation_stage, criterion=hard_label_loss(stage.criterion, labels))


def expert_memory_probe(config: RunConfig, data: PreparedData, tasks: Sequence[tuple[int]]) -> None:
    """Allocate as much memory as an expert does on this process's device, in a few seconds.

    All images are made resident; then an expert is trained for one epoch on a few of them. Its
    store is temporary.
    """
    resident = [
        model_space(part, data.normalisation, default_device())
        for part in (data.train, data.evaluation)
    ]
    stages, labels = config.experts, data.train.labels
    once = {
        stage: getattr(stages, stage).model_copy(update={"epochs": 1})
        for stage in ("representation", "classifier")
    }
    enough = 2 * max(stage.batch_size for stage in once.values())
    one_of_each_class = np.unique(labels, return_index=True)[1]
    few = data.train.subset(np.union1d(evenly_spaced(len(labels), enough), one_of_each_class))
    held_out = replace(
        data.evaluation, images=data.evaluation.images[:512], labels=data.evaluation.labels[:512]
    )
    with TemporaryDirectory() as scratch:
        short = config.model_copy(
            update={"experts": stages.model_copy(update={**once, "store": scratch})}
        )
        run_expert(
            short, replace(data, train=few, evaluation=held_out), *tasks[0], lambda report: None
        )
    del resident


class _Evaluator:
    """Accuracy of a parameter vector (P,) on the evaluation images.

    It is recorded with a stage's last epoch and decides nothing.
    """

    def __init__(self, flat: FlatModel, images: Images, labels: Tensor) -> None:
        self._flat, self._images, self._labels = flat, images, labels

    @torch.no_grad()
    def accuracy(self, theta: Tensor) -> float:
        pieces = [self._flat.logits(theta, part).argmax(-1) for part in self._images.split(512)]
        return float((torch.cat(pieces) == self._labels).double().mean())


def _kept_epochs(epochs: Iterator[Epoch], last: int, keep: int | None) -> Iterator[Epoch]:
    """The epochs that matching can use, and the last one: the classifier stage starts from it."""
    return (epoch for epoch in epochs if keep is None or epoch.epoch <= keep or epoch.epoch == last)


def _reporting(
    epochs: Iterator[Epoch],
    expert: int,
    stage: Stage,
    count: int,
    images: int,
    on_epoch: Callable[[EpochReport], None],
) -> Iterator[Epoch]:
    began = time.monotonic()
    for epoch in epochs:
        if epoch.loss is not None and epoch.accuracy is not None:
            rate = epoch.epoch * images / (time.monotonic() - began)
            on_epoch(
                EpochReport(expert, stage, epoch.epoch, count, rate, epoch.loss, epoch.accuracy)
            )
        yield epoch


def _write_stage(
    config: RunConfig,
    data: PreparedData,
    flat: FlatModel,
    task: TrajectoryTask,
    epochs: Iterator[Epoch],
    evaluator: _Evaluator,
    backbone: Tensor | None,
) -> None:
    """Write a stage while it is trained.

    A classifier stage is given its frozen ``backbone`` (Pb,), which is not stored with it.
    """
    header = TrajectoryHeader(
        expert=task.expert,
        stage=task.stage,
        identity=task.identity,
        config_fingerprint=store_fingerprint(config),
        dataset_fingerprint=data.train.fingerprint,
        layout=flat.layout,
        class_counts=tuple(int(n) for n in data.train.class_counts),
        seed=config.seed,
        dtype=config.experts.dtype,
    )
    stage = config.experts.representation if backbone is None else config.experts.classifier
    with TrajectoryWriter(config.store_uri, header) as writer:
        for epoch in epochs:
            metrics = (
                {}
                if epoch.loss is None
                else {"train_loss": epoch.loss, "train_accuracy": epoch.accuracy}
            )
            theta = epoch.theta if backbone is None else torch.cat([backbone, epoch.theta])
            if epoch.epoch == stage.epochs:
                metrics["test_accuracy"] = evaluator.accuracy(theta)
            parts = flat.split(theta.cpu())
            writer.append(
                epoch.epoch,
                classifier=parts[1],
                backbone=parts[0] if backbone is None else None,
                metrics=metrics,
            )
