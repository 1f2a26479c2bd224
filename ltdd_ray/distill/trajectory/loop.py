"""Distillation by trajectory matching without Ray: one loop, the same for one process and many.

Every rank holds the whole synthetic set and computes its share of an update: whole segments
(``trajectory``), or its rows of every segment's batches (``batch``). Either way the gradient of an
update is the sum over ranks, and DDP forms it.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn

from ltdd_ray.common.device import default_device
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checkpoint import load_checkpoint, save_checkpoint
from ltdd_ray.distill.checks import Checks
from ltdd_ray.distill.metrics_log import UpdateReport
from ltdd_ray.distill.provenance import reached_set
from ltdd_ray.distill.trajectory.objective import Objective
from ltdd_ray.distill.trajectory.prefetch import prefetch
from ltdd_ray.distill.trajectory.schedule import share
from ltdd_ray.distill.trajectory.shard import WHOLE, Shard
from ltdd_ray.distill.trajectory.start import empty_set, initial_set
from ltdd_ray.distill.trajectory.synthetic import Gradients, SyntheticSet
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.store import TrajectoryStore

PREFETCHED_SEGMENTS = 2


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
    checks: Checks | None = None,
    wants_checkpoint: Callable[[], bool] = lambda: False,
) -> DistilledSet:
    """Run every update after those of ``resume_from``; return the last iterate, or the best one.

    Args:
        on_update: called after each update, on every rank.
        on_checkpoint: called on every rank with (write, update), every ``checkpoint_every`` updates
            and after the last; ``write`` puts the complete state into a folder.
        on_initial: called on rank 0 of a fresh start with the set before its first update, and a
            sentence for each class that had to be filled.
        wrap: makes backward through the module average gradients over ranks (DDP). It must start
            all ranks from rank 0's set.
        resume_from: folder of a checkpoint, or None for a fresh start.
        checks: scores on held-out images, on rank 0 alone. A check comes before the checkpoint of
            its update, so a resumed run has it too.
        wants_checkpoint: asked on every rank after each update that has no checkpoint anyway. True,
            which must be the answer on all ranks, writes one at once.

    Raises ``NonFiniteLossError`` on every rank at once, before the update that would spoil the set.
    """
    device = default_device()
    flat = expert_network(config, data.train, 0)
    flat.model.to(device)
    expected, cache_bytes = expectation(config, data.train), int(config.compute.cache_gb * 1e9)
    store = TrajectoryStore.open(config.store_uri, expect=expected, cache_bytes=cache_bytes)
    if rank == 0 and resume_from is None:
        synthetic, sentences = initial_set(config, data, flat, store, device)
        start = snapshot(config, data, synthetic, 0)
        on_initial(start, sentences)
        if checks:
            checks.run(0, start)
    else:
        synthetic = empty_set(config, data, device)
    optimiser = synthetic.optimiser(config.distill)
    done = load_checkpoint(resume_from, synthetic, optimiser, data.train) if resume_from else 0
    module = wrap(synthetic)

    prior = torch.tensor(data.prior, dtype=torch.float32, device=device)
    by_batch, segments = config.compute.parallel == "batch", config.distill.segments_per_update
    shard = Shard(rank, world_size) if by_batch else WHOLE
    own = range(segments) if by_batch else share(segments, rank, world_size)
    objective = Objective(config, flat, store, prior, shard)
    updates = config.distill.updates
    tasks = ((update, segment) for update in range(done, updates) for segment in own)
    prefetched = prefetch(lambda task: objective.read(*task), tasks, PREFETCHED_SEGMENTS)
    with closing(prefetched) as readings:
        for update in range(done, updates):
            pictures, gradients = synthetic.pictures().detach(), Gradients.zeros(synthetic)
            measured: list[dict[str, float]] = []
            error = None
            for _ in own:
                try:
                    found = objective.add_segment(
                        synthetic, pictures, gradients, update, next(readings)
                    )
                    measured.append({name: float(value) for name, value in found.items()})
                except NonFiniteLossError as caught:  # ranks that share a batch must all go on
                    error = error or str(caught)
            shares = _exchange((measured, error), world_size)
            for _, message in shares:
                if message is not None:
                    raise NonFiniteLossError(message)
            optimiser.zero_grad()
            # DDP divides by world_size, but the weights are those of the whole update.
            (module(gradients) * world_size).backward()
            metrics = _metrics([one for found, _ in shares for one in found], config, synthetic)
            synthetic.limit_steps(config.distill)
            before = synthetic.images.detach().clone()
            limit = config.distill.skip_loss_above
            skipped = limit is not None and _largest_loss(metrics) > limit
            if limit is not None:
                metrics["skipped"] = float(skipped)
            if not skipped:
                optimiser.step()
            step = synthetic.images.detach() - before
            metrics["update_rms/images"] = float(step.square().mean().sqrt())
            on_update(UpdateReport(update + 1, updates, metrics), synthetic)
            if checks and checks.due(update + 1, updates):
                checks.run(update + 1, snapshot(config, data, synthetic, update + 1))
            planned = (update + 1) % config.distill.checkpoint_every == 0 or update + 1 == updates
            if planned or wants_checkpoint():
                on_checkpoint(
                    lambda folder, at=update + 1: save_checkpoint(
                        folder, synthetic, optimiser, at, data.train
                    ),
                    update + 1,
                )
    last = snapshot(config, data, synthetic, updates)
    return checks.result(last) if checks else last


def snapshot(
    config: RunConfig, data: PreparedData, synthetic: SyntheticSet, update: int
) -> DistilledSet:
    """The set as it is after ``update`` updates, on the CPU."""
    return reached_set(
        config,
        data,
        update,
        images=synthetic.images,
        soft_labels=synthetic.labels.softmax(-1),
        classes=synthetic.classes,
        learning_rate=float(synthetic.syn_lr),
    )


def _exchange(value: Any, world_size: int) -> list[Any]:
    """The ``value`` of every rank, in rank order."""
    if world_size == 1:
        return [value]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered


def _largest_loss(metrics: dict[str, float]) -> float:
    """The largest loss of a phase, without its weight; equal on all ranks."""
    names = ("loss/representation", "loss/classifier")
    return max(metrics[name] for name in names if name in metrics)


def _metrics(
    segments: list[dict[str, float]], config: RunConfig, synthetic: SyntheticSet
) -> dict[str, float]:
    """Losses and distances, as means over segments, and norms of the gradients before the step."""
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
    norms = {name: float(value.norm()) for name, value in gradients.items() if value is not None}
    return {
        "loss/total": sum(weights[name] * loss for name, loss in means.items() if name in weights),
        **means,
        "syn_lr": float(synthetic.syn_lr),
        "label_entropy": float(-(log_p.exp() * log_p).sum(-1).mean()),
        **{f"grad_norm/{name}": norm for name, norm in norms.items()},
    }
