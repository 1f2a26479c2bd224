"""One optimisation loop, the same for one process and for many: all of distillation but Ray.

Every rank holds the whole synthetic set and computes its share of an update: whole segments (``trajectory``), or its rows of every
segment's batches (``batch``). Either way an update's gradient is the sum of what the ranks found, and DDP forms it.
M images, C classes, E experts, N training images.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from ltdd_ray.common.device import default_device
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import class_budget
from ltdd_ray.data.prepare import Images, PreparedData, model_space
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checkpoint import load_checkpoint, save_checkpoint
from ltdd_ray.distill.provenance import provenance
from ltdd_ray.distill.trajectory.objective import Objective
from ltdd_ray.distill.trajectory.prefetch import read_ahead
from ltdd_ray.distill.trajectory.schedule import share
from ltdd_ray.distill.trajectory.shard import WHOLE, Shard
from ltdd_ray.distill.trajectory.synthetic import (
    Gradients,
    SyntheticSet,
    certain_logits,
    choose_initial,
    describe_initial,
    initial_images,
    initial_labels,
)
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.store import TrajectoryStore

SEGMENTS_AHEAD = 2


@dataclass(frozen=True)
class UpdateReport:
    """``update`` of ``updates`` is done; ``metrics`` are averages over all segments and so equal on every rank."""

    update: int
    updates: int
    metrics: dict[str, float]


def distill(
    config: RunConfig,
    data: PreparedData,
    *,
    on_update: Callable[[UpdateReport, SyntheticSet], None],
    on_checkpoint: Callable[[Callable[[Path], None], int], None],
    on_initial: Callable[[DistilledSet, list[str]], None],
    rank: int = 0,
    world_size: int = 1,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    resume_from: Path | None = None,
) -> DistilledSet:
    """Run every update that ``resume_from`` (a checkpoint's folder) has not seen, and return the last iterate.

    Args:
        on_update: after each update, on every rank.
        on_checkpoint: called on every rank with (write, update) every ``checkpoint_every`` updates and after the last; ``write``
            puts the complete state into a folder.
        on_initial: on rank 0 of a fresh start, with the set before its first update and what had to be filled in.
        wrap: makes backward through the module average gradients over ranks (DDP); it must start all ranks from rank 0's set.

    Raises ``NonFiniteLossError`` on every rank at once, before the update that would have spoilt the set.
    """
    device = default_device()
    flat = expert_network(config, data.train, 0)
    flat.model.to(device)
    cache_bytes = int(config.compute.cache_gb * 1e9)
    store = TrajectoryStore.open(
        config.store_uri, expect=expectation(config, data.train), cache_bytes=cache_bytes
    )
    synthetic, said = _start(
        config, data, flat, store, device, compute=rank == 0 and resume_from is None
    )
    optimiser = synthetic.optimiser(config.distill)
    done = load_checkpoint(resume_from, synthetic, optimiser) if resume_from else 0
    if rank == 0 and resume_from is None:
        on_initial(snapshot(config, data, synthetic, 0), said)
    module = wrap(synthetic)

    prior = torch.tensor(data.prior, dtype=torch.float32, device=device)
    by_batch, segments = config.compute.parallel == "batch", config.distill.segments_per_update
    objective = Objective(
        config, flat, store, prior, Shard(rank, world_size) if by_batch else WHOLE
    )
    updates, own = (
        config.distill.updates,
        range(segments) if by_batch else share(segments, rank, world_size),
    )
    tasks = ((update, segment) for update in range(done, updates) for segment in own)
    with closing(read_ahead(lambda task: objective.read(*task), tasks, SEGMENTS_AHEAD)) as readings:
        for update in range(done, updates):
            gradients = Gradients.zeros(synthetic)
            measured: list[dict[str, float]] = []
            error = None
            for _ in own:
                try:
                    found = objective.add_segment(synthetic, gradients, update, next(readings))
                    measured.append({name: float(value) for name, value in found.items()})
                except (
                    NonFiniteLossError
                ) as caught:  # go on: ranks that share a batch must meet in every sum
                    error = error or str(caught)
            shares = _exchange((measured, error), world_size)
            for _, message in shares:
                if message is not None:
                    raise NonFiniteLossError(message)
            optimiser.zero_grad()
            (
                module(gradients) * world_size
            ).backward()  # DDP divides by world_size; the weights are those of the whole update
            metrics = _metrics([one for found, _ in shares for one in found], config, synthetic)
            synthetic.limit_steps(config.distill)
            before = synthetic.images.detach().clone()
            optimiser.step()
            metrics["update_rms/images"] = float(
                (synthetic.images.detach() - before).square().mean().sqrt()
            )
            on_update(UpdateReport(update + 1, updates, metrics), synthetic)
            if (update + 1) % config.distill.checkpoint_every == 0 or update + 1 == updates:
                on_checkpoint(
                    lambda folder, at=update + 1: save_checkpoint(folder, synthetic, optimiser, at),
                    update + 1,
                )
    return snapshot(config, data, synthetic, updates)


def snapshot(
    config: RunConfig, data: PreparedData, synthetic: SyntheticSet, update: int
) -> DistilledSet:
    """The set as it is after ``update`` updates, on the CPU."""
    return DistilledSet(
        images=synthetic.images.detach().cpu().clone(),
        soft_labels=synthetic.labels.detach().softmax(-1).cpu(),
        classes=synthetic.classes.cpu(),
        learning_rate=float(synthetic.syn_lr),
        normalisation=data.normalisation.to(torch.device("cpu")),
        class_names=data.train.class_names,
        augmentation=config.augmentation,
        class_counts=tuple(data.train.class_counts.tolist()),
        provenance=provenance(config, data.train, update),
    )


def _start(
    config: RunConfig,
    data: PreparedData,
    flat: FlatModel,
    store: TrajectoryStore,
    device: torch.device,
    compute: bool,
) -> tuple[SyntheticSet, list[str]]:
    """The initial set, and what had to be filled in. Without ``compute`` only its shapes: a checkpoint or rank 0 has the values."""
    train = data.train
    budget = class_budget(config.distill, train.class_counts.tolist())
    classes = torch.arange(train.num_classes, device=device).repeat_interleave(
        torch.tensor(budget, device=device)
    )
    if not compute:
        empty = torch.zeros(len(classes), *train.image_shape, device=device)
        return SyntheticSet(
            empty,
            torch.zeros(len(classes), train.num_classes, device=device),
            classes,
            config.distill.syn_lr,
        ), []
    images, labels = model_space(train, data.normalisation, device)
    if config.distill.initial_labels == "one_hot":
        right = torch.ones(
            1, len(labels), dtype=torch.bool, device=device
        )  # no expert is asked: the choice is random
        index, repeat = choose_initial(right, labels, budget, config.seed)
        label_logits, said = certain_logits(labels[index], train.num_classes), []
    else:  # twice through the experts, as their logits on all images of a large source fit in no memory
        right = torch.stack(
            [logits.argmax(-1) == labels for logits in _expert_logits(config, flat, store, images)]
        )
        index, repeat = choose_initial(right, labels, budget, config.seed)
        label_logits = initial_labels(
            torch.stack([*_expert_logits(config, flat, store, images[index])]), right[:, index]
        )
        said = describe_initial(right, labels, budget, train.class_names)
    chosen = initial_images(images, index, repeat, Augmentation(config.augmentation), config.seed)
    return SyntheticSet(chosen, label_logits, classes, config.distill.syn_lr), said


@torch.no_grad()
def _expert_logits(
    config: RunConfig, flat: FlatModel, store: TrajectoryStore, images: Images
) -> Iterator[Tensor]:
    """Logits (N, C) on ``images`` of each ``label_expert`` at its last epoch, expert by expert."""
    parts = ceil(len(images) / 512)
    size = ceil(
        len(images) / parts
    )  # like parts: a last one of a single image is summed in another order, with other last bits
    for expert in range(config.experts.count):
        stage = config.distill.label_expert
        last = store.epochs(expert, stage)[-1]
        segment = store.segment(expert, stage, last, last)
        theta = torch.cat([segment.start_backbone, segment.start_classifier]).to(
            images.device, torch.float32
        )
        yield torch.cat([flat.logits(theta, part) for part in images.split(size)])


def _exchange(value: Any, world_size: int) -> list[Any]:
    """``value`` of every rank, in rank order."""
    if world_size == 1:
        return [value]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered


def _metrics(
    segments: list[dict[str, float]], config: RunConfig, synthetic: SyntheticSet
) -> dict[str, float]:
    """Means over segments of losses and distances, gradient norms and what they act on, taken before the step."""
    weights = {
        "loss/representation": config.distill.lambda_rep,
        "loss/classifier": config.distill.lambda_cls,
    }
    means = {name: sum(one[name] for one in segments) / len(segments) for name in segments[0]}
    log_p = synthetic.labels.detach().log_softmax(-1)
    gradients = {
        "images": synthetic.images.grad,
        "labels": synthetic.labels.grad,
        "log_lr": synthetic.log_lr.grad,
    }
    return {
        "loss/total": sum(
            weights[name] * value for name, value in means.items() if name in weights
        ),
        **means,
        "syn_lr": float(synthetic.syn_lr),
        "label_entropy": float(-(log_p.exp() * log_p).sum(-1).mean()),
        **{
            f"grad_norm/{name}": float(value.norm())
            for name, value in gradients.items()
            if value is not None
        },
    }
