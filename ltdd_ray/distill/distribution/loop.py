"""Distribution matching in one process, without Ray: its loop and the set that it ends in."""

from collections.abc import Callable
from pathlib import Path

from ltdd_ray.common.device import default_device
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checkpoint import load_checkpoint, save_checkpoint
from ltdd_ray.distill.checks import Checks
from ltdd_ray.distill.distribution.dc import GradientMatching
from ltdd_ray.distill.distribution.dm import DistributionMatching
from ltdd_ray.distill.distribution.idm import ImprovedDistributionMatching
from ltdd_ray.distill.distribution.rldd import UnilevelRecovery
from ltdd_ray.distill.distribution.tgdd import TrajectoryGuidedMatching
from ltdd_ray.distill.metrics_log import UpdateReport
from ltdd_ray.distill.provenance import reached_set

ENGINES: dict[str, type[DistributionMatching]] = {
    "dm": DistributionMatching,
    "dc": GradientMatching,
    "idm": ImprovedDistributionMatching,
    "tgdd": TrajectoryGuidedMatching,
    "rldd": UnilevelRecovery,
}


def match_distributions(
    config: RunConfig,
    data: PreparedData,
    *,
    on_update: Callable[[UpdateReport, DistributionMatching], None],
    on_checkpoint: Callable[[Callable[[Path], None], int], None],
    on_initial: Callable[[DistilledSet, list[str]], None],
    resume_from: Path | None = None,
    checks: Checks | None = None,
) -> DistilledSet:
    """Run every update after those of ``resume_from``; return the last iterate, or the best one.

    The callbacks, ``checkpoint_every``, ``resume_from`` and ``checks`` are those of
    :func:`~ltdd_ray.distill.trajectory.loop.distill`.

    Raises ``NonFiniteLossError`` before the update that would spoil the set, and ``UserError`` for
    mosaics whose pictures do not fit the image.
    """
    method = ENGINES[config.distill.engine](config, data, default_device())
    optimiser = method.optimiser()
    if resume_from is None:
        start = snapshot(config, data, method, 0)
        on_initial(start, method.describe_initial(data))
        if checks:
            checks.run(0, start)
    done = load_checkpoint(resume_from, method, optimiser, data.train) if resume_from else 0
    updates = config.distill.distribution.updates
    for update in range(done, updates):
        metrics = method.step(optimiser, update)
        on_update(UpdateReport(update + 1, updates, metrics), method)
        if checks and checks.due(update + 1, updates):
            checks.run(update + 1, snapshot(config, data, method, update + 1))
        if (update + 1) % config.distill.checkpoint_every == 0 or update + 1 == updates:
            on_checkpoint(
                lambda folder, at=update + 1: save_checkpoint(
                    folder, method, optimiser, at, data.train
                ),
                update + 1,
            )
    last = snapshot(config, data, method, updates)
    return checks.result(last) if checks else last


def snapshot(
    config: RunConfig, data: PreparedData, method: DistributionMatching, update: int
) -> DistilledSet:
    """The set as it is after ``update`` updates, on the CPU."""
    return reached_set(
        config,
        data,
        update,
        images=method.images,
        soft_labels=method.soft_labels(),
        classes=method.picture_classes,
        learning_rate=config.evaluate.lr,
    )
