"""Distribution matching in a run's folder, resumed from its last checkpoint."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checkpoint import PROGRESS, finished_updates
from ltdd_ray.distill.checks import Checks
from ltdd_ray.distill.distribution.dm import DistributionMatching
from ltdd_ray.distill.distribution.loop import match_distributions
from ltdd_ray.distill.metrics_log import UpdateReport, open_log


def run_distribution(
    config: RunConfig,
    data: PreparedData,
    on_report: Callable[[UpdateReport | str], None],
    make_checks: Callable[[int], Checks | None] = lambda done: None,
    on_kept: Callable[[], None] = lambda: None,
) -> DistilledSet:
    """Distil into ``distilled`` of the run's folder, from its last checkpoint if it has one.

    ``on_report`` gets a report per update and, at a fresh start, sentences about the initial set.
    ``make_checks`` takes the number of finished updates. ``on_kept`` is called after a checkpoint
    was written.
    """
    distilled = config.folder / "distilled"
    checkpoints = distilled / "checkpoints"
    resume_from = latest_checkpoint(checkpoints)
    done = finished_updates(resume_from)

    def on_initial(initial: DistilledSet, said: list[str]) -> None:
        initial.save(distilled, "initial")
        for sentence in said:
            on_report(sentence)

    def on_checkpoint(write: Callable[[Path], None], update: int) -> None:
        keep_checkpoint(checkpoints, write, update)
        on_kept()

    log = open_log(config, data.normalisation, done)

    def on_update(report: UpdateReport, method: DistributionMatching) -> None:
        log.write(report, method.images, data.train.num_classes)
        on_report(report)

    with closing(log):
        return match_distributions(
            config,
            data,
            on_update=on_update,
            on_checkpoint=on_checkpoint,
            on_initial=on_initial,
            resume_from=resume_from,
            checks=make_checks(done),
        )


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with most updates. One without its last file was copied in part only."""
    return max(
        (file.parent for file in folder.glob(f"update-*/{PROGRESS}")),
        key=lambda path: int(path.name.removeprefix("update-")),
        default=None,
    )


def keep_checkpoint(folder: Path, write: Callable[[Path], None], update: int) -> None:
    """Let ``write`` fill a new checkpoint in ``folder``, then remove the earlier ones.

    The new one appears whole or not at all.
    """
    unfinished = folder / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write(unfinished)
    earlier = list(folder.glob("update-*"))
    for path in earlier:
        if path.name == f"update-{update}":  # copied in part
            shutil.rmtree(path)
    unfinished.rename(folder / f"update-{update}")
    for path in earlier:
        if path.name != f"update-{update}":
            shutil.rmtree(path)
