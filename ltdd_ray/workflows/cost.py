"""Estimate time, memory and disk of a run on this machine.

Short pieces of its work are timed on noise of the images' shape and multiplied by their number.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from ltdd_ray.common.device import default_device, prepare_process
from ltdd_ray.common.hardware import describe_hardware, peak_memory
from ltdd_ray.common.units import duration, size
from ltdd_ray.config import ModelConfig, RunConfig
from ltdd_ray.config.distill import Budget
from ltdd_ray.data.budget import class_budget, picture_budget
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.load import DataSplits
from ltdd_ray.data.normalisation import Normalisation, fit_cost
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.distribution.dm import DistributionMatching
from ltdd_ray.distill.distribution.loop import ENGINES
from ltdd_ray.distill.distribution.rldd import UnilevelRecovery
from ltdd_ray.distill.distribution.statistics import AT_ONCE
from ltdd_ray.distill.distribution.tgdd import TrajectoryGuidedMatching
from ltdd_ray.distill.trajectory.matching import match
from ltdd_ray.distill.trajectory.objective import phases
from ltdd_ray.evaluate.full_data import FULL_DATA
from ltdd_ray.evaluate.sets import TrainingSet, epochs_on
from ltdd_ray.evaluate.train import train_network
from ltdd_ray.experts.expert import first_stage
from ltdd_ray.experts.plan import expert_network
from ltdd_ray.experts.train import classifier_stage
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.networks import Network, build_network

SECONDS_PER_TIMING = 0.5
STEPS_TIMED = 2


@dataclass(frozen=True)
class CostEstimate:
    """The cost of a run.

    ``seconds`` by stage, ``first_bytes`` of memory to fit a whitening before any other process
    starts, ``process_bytes`` of memory in each process, ``memory`` of the machine or GPU in bytes,
    ``store_bytes`` of trajectories on disk.
    """

    seconds: dict[str, float]
    processes: int
    process_bytes: int
    memory: int
    store_bytes: int
    first_bytes: int = 0

    def sentences(self) -> list[str]:
        """What to tell the user."""
        stages = ", ".join(
            f"{stage} {duration(seconds)}" for stage, seconds in self.seconds.items()
        )
        needed = self.processes * self.process_bytes
        enough = (
            ""
            if needed < self.memory
            else ", which is not enough: "
            "lower compute.num_actors, compute.num_workers or distill.micro_batch"
        )
        return [
            f"time: about {duration(sum(self.seconds.values()))} on this machine ({stages}), "
            "and a few seconds to start each stage",
            f"memory: about {size(self.process_bytes)} in each of {self.processes} processes; "
            f"this machine has {size(self.memory)}{enough}",
            *(
                [f"whitening: about {size(self.first_bytes)} of memory before the first stage"]
                if self.first_bytes
                else []
            ),
            f"disk: about {size(self.store_bytes)} for expert trajectories",
        ]


def estimate_cost(config: RunConfig, splits: DataSplits) -> CostEstimate:
    """Estimate the cost of a run, which takes a few seconds for most configs.

    Assumes that processes do not slow each other down while each has its own cores or GPU.
    """
    prepare_process(config.compute.threads)
    # Assumes that actors on one GPU together are as fast as one actor alone.
    if config.compute.gpus_per_actor == "auto":
        gpus = torch.cuda.device_count()
        alone = {"num_actors": gpus, "gpus_per_actor": 1.0} if gpus else {"gpus_per_actor": 0.0}
        config = config.model_copy(update={"compute": config.compute.model_copy(update=alone)})
    train, hardware = splits.train, describe_hardware()
    flat = expert_network(config, train, 0)
    flat.model.to(default_device())
    seconds, whitening = {}, 0
    if config.data.normalisation != "standard":
        seconds["whiten"], whitening = fit_cost(prod(train.image_shape), len(train))
    if config.needs_experts:
        seconds["experts"] = _experts(config, train, flat)
    if config.matches:
        seconds["distill"] = _distill(config, train, flat)
    elif config.distils:
        seconds["distill"] = _match_distributions(config, train)
    seconds["evaluate"] = _evaluate(config, train)
    layout, experts = flat.layout, config.experts
    kept = experts.representation.epochs if experts.keep_epochs is None else experts.keep_epochs + 1
    numbers = (kept + 1) * layout.size + (experts.classifier.epochs + 1) * layout.classifier_size
    # Images in model space are float32, not bytes.
    resident = 4 * (train.bytes_in_memory + splits.test.bytes_in_memory)
    resident += 8 * prod(train.image_shape) ** 2 if whitening else 0  # two float32 matrices
    on_gpu = torch.cuda.is_available()
    return CostEstimate(
        seconds=seconds,
        processes=max(config.compute.num_actors, config.compute.num_workers),
        first_bytes=whitening,
        process_bytes=resident + (torch.cuda.max_memory_allocated() if on_gpu else peak_memory()),
        memory=torch.cuda.get_device_properties(0).total_memory if on_gpu else hardware["memory"],
        store_bytes=experts.count * numbers * (4 if experts.dtype == "float32" else 2)
        if config.needs_experts
        else 0,
    )


def _experts(config: RunConfig, train: LongTailedDataset, flat: FlatModel) -> float:
    experts, augment, classes = config.experts, Augmentation(config.augmentation), train.num_classes
    whole, head = experts.representation, experts.classifier
    images, labels = _random_images(train, min(whole.batch_size, len(train)))
    endless = whole.model_copy(update={"epochs": 10**9})
    # One batch is the whole data set here, so each epoch is one batch.
    # A loss with a prior takes it from all labels: a batch may lack classes.
    run_stage = first_stage(endless, torch.as_tensor(train.labels, device=labels.device))
    batches = run_stage(endless, flat, images, labels, augment, config.seed, 0)
    next(batches)
    per_batch = _seconds(lambda: next(batches))
    per_class = head.samples_per_class * max(
        1, head.batch_size // (head.samples_per_class * classes)
    )
    images, labels = _random_images(train, per_class * classes)
    theta, epoch = flat.initial().to(images.device), head.model_copy(update={"epochs": 1})
    per_image = _seconds(
        lambda: list(classifier_stage(epoch, flat, theta, images, labels, augment, config.seed, 0))
    ) / len(images)
    one = whole.epochs * -(-len(train) // whole.batch_size) * per_batch
    one += head.epochs * classes * int(train.class_counts.max()) * per_image
    return one * -(
        -experts.count
        // _at_once(
            config.compute.num_actors, config.compute.gpus_per_actor, config.compute.threads
        )
    )


def _distill(config: RunConfig, train: LongTailedDataset, flat: FlatModel) -> float:
    settings, compute = config.distill, config.compute
    images, classes = _random_images(
        train, sum(picture_budget(settings, train.class_counts.tolist()))
    )
    labels = torch.nn.functional.one_hot(classes, train.num_classes).float()
    start = flat.initial().to(images.device)
    target = start + 0.01 * torch.randn_like(start)
    prior = torch.tensor(train.prior, dtype=torch.float32, device=images.device)
    segment = 0.0
    for phase in phases(config, prior):
        steps = min(STEPS_TIMED, phase.settings.syn_steps)

        def once(phase=phase, steps=steps) -> None:
            match(
                flat,
                start,
                target,
                images,
                labels,
                torch.tensor(settings.syn_lr, device=images.device),
                steps=steps,
                batch_size=phase.settings.batch_size,
                scope=phase.scope,
                loss=phase.loss,
                augment=Augmentation(config.augmentation),
                seed=config.seed,
                hypergradient=settings.hypergradient,
                micro_batch=settings.micro_batch,
            )

        segment += _seconds(once) * phase.settings.syn_steps / steps
    at_once = _at_once(compute.num_workers, compute.gpus_per_worker, compute.threads)
    return settings.updates * -(-settings.segments_per_update // at_once) * segment


def _match_distributions(config: RunConfig, train: LongTailedDataset) -> float:
    """All updates, which are made one after the other on one actor, and RLDD's start."""
    updates = config.distill.distribution.updates
    if not updates and config.distill.engine != "rldd":
        return 0.0
    method, number = _engine_on_noise(config, train), itertools.count()
    optimiser = method.optimiser()
    start = _statistics_and_crops(method, train) if isinstance(method, UnilevelRecovery) else 0.0
    if not updates:
        return start
    return start + updates * _seconds(lambda: method.step(optimiser, next(number)))


@torch.no_grad()
def _statistics_and_crops(method: UnilevelRecovery, train: LongTailedDataset) -> float:
    """Passes of all images through RLDD's networks: one for each batch norm, one for each crop."""
    images, _ = _random_images(train, min(AT_ONCE, len(train)))
    crops = method.config.distill.distribution.recovery.crops * len(method.teachers)
    passes = method.config.experts.count * method.batch_norms + crops
    return passes * len(train) / len(images) * _seconds(lambda: method.observer(images))


class _WithoutSnapshots(TrajectoryGuidedMatching):
    """TGDD with fresh networks in place of the experts' snapshots, which are not trained yet."""

    __init__ = DistributionMatching.__init__
    initial = DistributionMatching.initial

    def network(self, optimiser: Optimizer, update: int) -> Network:
        return self.fresh_network(update).requires_grad_(False)


class _WithoutExperts(UnilevelRecovery):
    """RLDD with fresh networks in place of the experts, which are not trained yet."""

    def trained_networks(self, data: PreparedData) -> list[Network]:
        count = min(2, self.config.experts.count)
        networks = [expert_network(self.config, data.train, e).model for e in range(count)]
        return [network.to(self.real.device).eval().requires_grad_(False) for network in networks]  # pyright: ignore[reportReturnType]


def _engine_on_noise(config: RunConfig, train: LongTailedDataset) -> DistributionMatching:
    """The engine of the config with two real images of noise per class, which repeat in batches."""
    budget = Budget(per_class=class_budget(config.distill, train.class_counts.tolist()))
    distill = config.distill.model_copy(update={"ipc": None, "budget": budget})
    labels = np.repeat(np.arange(train.num_classes), 2)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), *train.image_shape), np.uint8)
    noise = LongTailedDataset(pixels, labels, train.class_names)
    half = torch.full((train.image_shape[0], 1, 1), 0.5)
    engine = ENGINES[config.distill.engine]
    engine = {
        TrajectoryGuidedMatching: _WithoutSnapshots,
        UnilevelRecovery: _WithoutExperts,
    }.get(engine, engine)
    return engine(
        config.model_copy(update={"distill": distill}),
        PreparedData(noise, noise, Normalisation(half, half)),
        default_device(),
    )


def _evaluate(config: RunConfig, train: LongTailedDataset) -> float:
    """All networks. An epoch on all images takes the time of as many pictures of a small set."""
    settings, compute = config.evaluate, config.compute
    images, classes = _random_images(
        train, sum(picture_budget(config.distill, train.class_counts.tolist()))
    )
    given = TrainingSet(
        images, torch.nn.functional.one_hot(classes, train.num_classes).float(), settings.lr
    )
    epoch, augment = settings.model_copy(update={"epochs": 1}), Augmentation(config.augmentation)

    def an_epoch(model: ModelConfig) -> float:
        network = build_network(model, train.image_shape, train.num_classes, config.seed)
        network.to(default_device())
        return _seconds(lambda: train_network(network, given, epoch, augment, config.seed))

    def epochs(set_name: str) -> float:
        whole = len(train) / len(images) if set_name in FULL_DATA else 1.0
        return epochs_on(config, set_name) * whole

    own, *others = map(an_epoch, config.evaluation_models.values())
    each = [own * epochs(name) for name in settings.sets]
    each += [other * epochs(settings.sets[0]) for other in others]
    busy = [0.0] * _at_once(compute.num_actors, compute.gpus_per_actor, compute.threads)
    for seconds in sorted(settings.networks * each, reverse=True):
        busy[busy.index(min(busy))] += seconds
    return max(busy)


def _random_images(train: LongTailedDataset, count: int) -> tuple[Tensor, Tensor]:
    """Noise (count, K, H, W) in model space and labels (count,) with equal class counts."""
    device = default_device()
    return torch.randn(count, *train.image_shape, device=device), torch.arange(
        count, device=device
    ) % train.num_classes


def _at_once(wanted: int, gpus: float | str, threads: int) -> int:
    """Number of processes at once: at most one per core, or per GPU if each uses one."""
    room = torch.cuda.device_count() if gpus else describe_hardware()["cores"] // threads
    return max(1, min(wanted, room))


def _seconds(work: Callable[[], object]) -> float:
    """Mean seconds of a call, after one call to warm up."""
    _timed(work)
    first = _timed(work)
    repeats = min(100, int(SECONDS_PER_TIMING / max(first, 1e-4)))
    return (first + sum(_timed(work) for _ in range(repeats))) / (1 + repeats)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
