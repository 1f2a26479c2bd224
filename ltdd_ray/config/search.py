"""`ltdd-ray search`."""

from typing import Literal

from pydantic import Field, model_validator

from ltdd_ray.config.section import Section, refuse_repeats


class Dimension(Section):
    """One setting that a search varies: a range, uniform or log-uniform, or a list of choices."""

    low: float | None = Field(default=None, description="Lower end of the range, included.")
    high: float | None = Field(default=None, description="Upper end of the range, included.")
    log: bool = Field(
        default=False,
        description="Draw uniformly in the logarithm; `low` must be above 0. For settings whose "
        "order of magnitude is unknown.",
    )
    choices: tuple[float | int | str | None, ...] | None = Field(
        default=None, min_length=1, description="Values to choose from, instead of a range."
    )

    @model_validator(mode="after")
    def _range_or_choices(self) -> "Dimension":
        if self.choices is not None:
            refuse_repeats("choices", self.choices)
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either low and high, or choices, not both")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError(
                f"a range needs low < high, got low {self.low}, high {self.high}; or give choices"
            )
        elif self.log and self.low <= 0:
            raise ValueError(
                f"a logarithmic range starts above 0, got low {self.low:g}; raise it or set log to "
                "false"
            )
        return self


class Asha(Section):
    """Asynchronous successive halving (Li et al., MLSys 2020)."""

    grace: int = Field(
        default=1,
        ge=1,
        description="Reports before a trial may be stopped. Raise it if early scores mislead.",
    )
    reduction: int = Field(
        default=3,
        ge=2,
        description="At each rung only the best 1/reduction of the trials go on. Higher values "
        "save more time and stop more trials that would have recovered.",
    )


class SearchConfig(Section):
    """What `ltdd-ray search` varies, and how it scores a trial."""

    space: dict[str, Dimension] = Field(
        default={
            "distill.representation.dam.lambda_prior": Dimension(low=0, high=2),
            "distill.lambda_rep": Dimension(low=0.1, high=10, log=True),
            "distill.lambda_cls": Dimension(low=0.05, high=5, log=True),
        },
        min_length=1,
        description="Settings to vary, each with a range or choices, by dotted keys below "
        "`distill`. Trials share one trajectory store, so nothing that decides the experts can be "
        "varied.",
    )
    algorithm: Literal["random", "optuna"] = Field(
        default="random",
        description="How values are drawn: `random`, or Optuna's TPE, which learns from finished "
        "trials (needs `pip install ltdd-ray[optuna]`).",
    )
    trials: int = Field(
        default=20, ge=1, description="Number of trials; the config's own values are the first."
    )
    max_concurrent: int = Field(
        default=2, ge=1, description="Trials that run at the same time, if the cluster has room."
    )
    workers_per_trial: int = Field(
        default=1,
        ge=1,
        description="DDP workers of each trial; with 2 or more a trial is a Ray Train job.",
    )
    updates: int | None = Field(
        default=None,
        ge=1,
        description="Updates of a trial that is not stopped; null for `distill.updates`.",
    )
    report_every: int = Field(
        default=100,
        ge=1,
        description="Updates between two checkpoints of a trial, each scored and reported.",
    )
    asha: Asha | None = Field(
        default=Asha(),
        description="Asynchronous successive halving (Li et al., MLSys 2020), which stops weak "
        "trials at rungs; null lets every trial run to its end. Rungs lie at `grace` reports, "
        "then at `reduction` times as many each.",
    )
    validation_fraction: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of each training class held out to score trials, rounded down.",
    )
    trend_weight: float = Field(
        default=1.0,
        gt=0,
        description="Weight of the trend over class sizes in the score of a class, in held-out "
        "images. Raise it if small classes make scores noisy.",
    )
    networks: int = Field(
        default=3,
        ge=1,
        description="Networks trained on the set at every report. More make scores less noisy.",
    )
    epochs: int = Field(
        default=200, ge=1, description="Passes over the set for each of these networks."
    )
    store: str | None = Field(
        default=None,
        description="Trajectory store of the experts that are trained without the held-out images; "
        "null for `search/experts` in the run's folder.",
    )
