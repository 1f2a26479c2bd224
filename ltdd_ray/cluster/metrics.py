"""Progress and losses of a run as metrics for Ray's dashboard and for Prometheus.

Prometheus has each name with Ray's prefix ``ray_``, and the counter with the suffix ``_total``.
``deploy/grafana.json`` shows them.
"""

import time
from functools import cached_property

from ray.util.metrics import Counter, Gauge

from ltdd_ray.runs.events import LossNote
from ltdd_ray.runs.progress import StageState

TAGS = ("run", "stage", "unit")
GAUGES = {
    "ltdd_stage_done": "Units of work that are done",
    "ltdd_stage_total": "Units of work in the stage",
    "ltdd_stage_rate": "Units of work per second",
    "ltdd_stage_seconds": "Seconds from the start of the stage in this session to its last update",
    "ltdd_stage_waiting": "1 while the stage waits for its first update, else 0",
    "ltdd_segment_rate": "Segments of experts matched per second by all workers together",
}
LOSS_TAGS = ("run", "stage", "cause")
ACTORS_LOST = "ltdd_actors_lost"


def stage_values(state: StageState, seconds: float, segments: int | None) -> dict[str, float]:
    """The values of :data:`GAUGES` for a stage that began ``seconds`` ago.

    ``segments`` is the number that an update of the stage matches, None if it matches none.
    """
    rate = state.rate or 0.0
    return {
        "ltdd_stage_done": state.done,
        "ltdd_stage_total": state.total,
        "ltdd_stage_rate": rate,
        "ltdd_stage_seconds": seconds,
        "ltdd_stage_waiting": float(state.done == 0 and state.total > 0),
        **({} if segments is None else {"ltdd_segment_rate": rate * segments}),
    }


class StageGauges:
    """The :data:`GAUGES` of one stage, tagged with run, stage and unit. Ray must run."""

    def __init__(self, run: str, segments_per_update: int | None) -> None:
        """``segments_per_update``: of distillation; None for a run that matches no trajectories."""
        self._run, self._segments, self._began = run, segments_per_update, time.monotonic()
        self._gauges = {name: Gauge(name, about, TAGS) for name, about in GAUGES.items()}

    def set(self, state: StageState) -> None:
        tags = {"run": self._run, "stage": state.stage, "unit": state.unit}
        segments = self._segments if state.stage == "distill" else None
        for name, value in stage_values(state, time.monotonic() - self._began, segments).items():
            self._gauges[name].set(value, tags)


class LossCounter:
    """Counter ``ltdd_actors_lost``, tagged with run, stage and cause: preempted or failed."""

    def __init__(self, run: str) -> None:
        self._run = run

    @cached_property
    def _counter(self) -> Counter:
        """Made at the first loss, when Ray runs; a run without work does not start it."""
        return Counter(ACTORS_LOST, "Actors and workers that were lost", LOSS_TAGS)

    def add(self, stage: str, note: LossNote) -> None:
        preempted = note.losses["preempted"]
        causes = {"preempted": preempted, "failed": note.losses["actors"] - preempted}
        for cause, actors in causes.items():
            if actors:
                self._counter.inc(actors, {"run": self._run, "stage": stage, "cause": cause})
