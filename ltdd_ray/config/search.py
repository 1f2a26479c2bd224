"""`ltdd-ray search`."""

from typing import Literal

from pydantic import Field, model_validator

from ltdd_ray.config.section import Section


class Dimension(Section):
    """One setting a search varies: a range, uniform or log-uniform, or a list of choices."""

    low: float | None = None
    high: float | None = None
    log: bool = Field(
        default=False, description="Draw uniformly in the logarithm; `low` must be above 0."
    )
    choices: tuple[float | int | str | None, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _range_or_choices(self) -> "Dimension":
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either low and high, or choices, not both")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError(
                f"a range needs low < high, got low {self.low}, high {self.high}; or give choices"
            )
        elif self.log and self.low <= 0:
            raise ValueError(
                f"a logarithmic range starts above 0, got low {self.low:g}; raise it or set log to false"
            )
        return self


class Asha(Section):
    """Asynchronous successive halving (Li et al., MLSys 2020): a trial outside the best 1/reduction at a rung is stopped."""

    grace: int = Field(default=1, ge=1, description="Reports before a trial may be stopped.")
    reduction: int = Field(default=3, ge=2)


class SearchConfig(Section):
    """`ltdd-ray search`: which settings of `distill` to vary, how long a trial is and what it is judged by."""

    space: dict[str, Dimension] = Field(
        default={
            "distill.representation.dam.lambda_prior": Dimension(low=0, high=2),
            "distill.lambda_rep": Dimension(low=0.1, high=10, log=True),
            "distill.lambda_cls": Dimension(low=0.05, high=5, log=True),
        },
        min_length=1,
        description="Dotted keys below `distill`. Trials share one store, so nothing that decides the experts can be varied.",
    )
    algorithm: Literal["random", "optuna"] = "random"
    trials: int = Field(default=20, ge=1)
    max_concurrent: int = Field(default=2, ge=1)
    workers_per_trial: int = Field(
        default=1,
        ge=1,
        description="DDP workers of each trial; from 2 on a trial is a Ray Train job.",
    )
    updates: int | None = Field(
        default=None, ge=1, description="Updates of a trial; null for distill.updates."
    )
    report_every: int = Field(
        default=100, ge=1, description="Updates between two checkpoints, each judged and reported."
    )
    asha: Asha | None = Field(default=Asha(), description="null lets every trial run to its end.")
    validation_fraction: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of each training class held out as judge, rounded down.",
    )
    trend_weight: float = Field(
        default=1.0,
        gt=0,
        description="Held-out images that the trend over class sizes counts for in a class's accuracy.",
    )
    networks: int = Field(
        default=3, ge=1, description="Networks trained on the set at every report."
    )
    epochs: int = Field(default=200, ge=1, description="Their epochs.")
    store: str | None = Field(
        default=None,
        description="Store of the experts trained without the held-out images; null for `search/experts` of the run.",
    )
