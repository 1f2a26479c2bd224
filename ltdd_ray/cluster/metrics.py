"""Progress of the stages as metrics for Ray's dashboard and for Prometheus."""

from ray.util.metrics import Gauge

from ltdd_ray.runs.progress import StageState

TAGS = ("run", "stage", "unit")


class StageGauges:
    """Gauges ``ltdd_stage_done``, ``ltdd_stage_total`` and ``ltdd_stage_rate`` (units per second).

    Each is tagged with run, stage and unit.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._done = Gauge("ltdd_stage_done", "Units of work that are done", TAGS)
        self._total = Gauge("ltdd_stage_total", "Units of work in the stage", TAGS)
        self._rate = Gauge("ltdd_stage_rate", "Units of work per second", TAGS)

    def set(self, state: StageState) -> None:
        tags = {"run": self._run, "stage": state.stage, "unit": state.unit}
        for gauge, value in (
            (self._done, state.done),
            (self._total, state.total),
            (self._rate, state.rate or 0.0),
        ):
            gauge.set(value, tags)
