"""Seconds of updates until a distilled set is four points above its own start.

LTDD with the settings of the shipped config ``demo`` and two images per class, on digits that keep
60 to 6 training images of a class. The other training images are held out, 74 or more of a class,
and score the set. The time of experts and scores does not count.
"""

import tempfile
import time

import numpy as np

from ltdd_ray.bench.result import Result
from ltdd_ray.bench.sizes import FULL
from ltdd_ray.bench.timing import prepare, say
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import load_config
from ltdd_ray.data.dataset import LabelledImages
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.data.sources import load_source
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checks import Checks
from ltdd_ray.distill.trajectory.loop import distill
from ltdd_ray.evaluate.held_out import TREND_WEIGHT, HeldOutEvaluator
from ltdd_ray.experts.expert import run_expert

POINTS = 4
EVERY = 10  # updates between two scores
NETWORKS = 3
SETTINGS = ("data.largest_class=60", "data.imbalance_factor=10", "distill.ipc=2")


class _RisenError(Exception):
    """The set is high enough."""


def measure(repeats: int, *changes: str) -> list[Result]:
    """Every repeat makes the same updates. ``changes`` are settings of the config, ``a.b=c``."""
    prepare(FULL.threads)
    with tempfile.TemporaryDirectory() as folder:
        config = load_config("demo", [*SETTINGS, *changes, f"output={folder}"])
        data = prepare_data(config)
        for expert in range(config.experts.count):
            run_expert(config, data, expert, lambda report: None)
        found = [_seconds(config, data) for _ in range(repeats)]
    say(f"updates until {POINTS} points above the start", {"engine": found})
    return [Result.of("distill_seconds_to_4_points", found, 30.0, "lower")]


def _seconds(config: RunConfig, data: PreparedData) -> float:
    clock = _Clock(config, data)
    checks = Checks(
        config.folder,
        clock.score,
        engine=config.distill.engine,
        every=EVERY,
        keep="last",
        done=0,
        say=lambda sentence: None,
    )
    try:
        distill(
            config,
            data,
            on_update=lambda report, synthetic: None,
            on_checkpoint=lambda write, update: None,
            on_initial=lambda initial, said: None,
            checks=checks,
        )
    except _RisenError:
        return clock.seconds
    raise UserError(
        f"bench distill: the set is less than {POINTS} points above its start after "
        f"{config.distill.updates} updates; check the installation with `make test`"
    )


class _Clock:
    """Scores sets and adds up the time between scores."""

    def __init__(self, config: RunConfig, data: PreparedData) -> None:
        self._evaluator = HeldOutEvaluator(
            config,
            data,
            held_out(config, data),
            networks=NETWORKS,
            epochs=config.evaluate.epochs,
            trend_weight=TREND_WEIGHT,
            purpose="benchmark-network",
        )
        self.seconds = 0.0
        self._start: float | None = None
        self._since = 0.0

    def score(self, found: DistilledSet) -> float:
        """Balanced accuracy 0..1. Raises ``_RisenError`` where it is ``POINTS`` above the first."""
        now = time.perf_counter()
        accuracy = self._evaluator.score(found).accuracy
        if self._start is None:
            self._start = accuracy
        else:
            self.seconds += now - self._since
            if accuracy >= self._start + POINTS / 100:
                raise _RisenError
        self._since = time.perf_counter()
        return accuracy


def held_out(config: RunConfig, data: PreparedData) -> LabelledImages:
    """All training images that the long-tailed profile leaves out."""
    whole, _ = load_source(config.data)
    used = set(data.train.digests())
    rest = np.array([at for at, digest in enumerate(whole.digests()) if digest not in used])
    return LabelledImages(whole.images[rest], whole.labels[rest], whole.class_names)
