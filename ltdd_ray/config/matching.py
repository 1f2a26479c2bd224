"""The two phases of trajectory matching."""

from typing import Literal

from pydantic import Field, model_validator

from ltdd_ray.config.section import Section


class Dam(Section):
    """The distribution-agnostic loss L_DAM of the student's inner steps (paper, Sec. 4.1)."""

    class_weights: Literal["none", "frequency", "mean_one"] = Field(
        default="frequency",
        description="Class weights g_k of the loss: 1 (`none`), s_k = n_k / N (`frequency`, as "
        "published) or C s_k (`mean_one`). `frequency` makes inner gradients about C times "
        "smaller, so `syn_lr` must grow.",
    )
    lambda_prior: float = Field(
        default=0.0,
        ge=0,
        description="Weight lambda of log s in the logits. The larger it is, the more of the "
        "expert's bias to head classes the student takes into its weights instead of the images; "
        "1 is a good start with `class_weights: none`.",
    )


class StartEpochs(Section):
    """Epochs of an expert that a segment may start from."""

    min: int = Field(default=0, ge=0, description="Earliest start epoch, included in the draw.")
    max: int = Field(
        default=0,
        ge=0,
        description="Latest start epoch, included in the draw. Raise it to match later, harder "
        "parts of training; experts must be trained that far.",
    )
    initial_max: int | None = Field(
        default=None,
        ge=0,
        description="Latest start epoch of the first update; null for `max` from the beginning.",
    )
    growth: int = Field(
        default=0,
        ge=0,
        description="Updates over which the latest start epoch grows from `initial_max` to `max`.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "StartEpochs":
        first = self.max if self.initial_max is None else self.initial_max
        if not self.min <= first <= self.max:
            raise ValueError(
                "start epochs must satisfy min <= initial_max <= max, got "
                f"min {self.min}, initial_max {first}, max {self.max}"
            )
        return self


class RepresentationPhase(Section):
    """Matching the representation expert, which was trained on the long-tailed images."""

    syn_steps: int = Field(
        default=80,
        ge=1,
        description="Inner steps T of the student on synthetic images. Time grows in proportion.",
    )
    batch_size: int = Field(
        default=500,
        ge=1,
        description="Synthetic images of each inner step; at most the whole set.",
    )
    expert_epochs: int = Field(
        default=2,
        ge=1,
        description="Epochs of the expert between start and target. The student must cover that "
        "distance in `syn_steps` steps.",
    )
    start_epochs: StartEpochs = Field(
        default=StartEpochs(max=40),
        description="Epochs of the expert that a segment may start from: uniform from `min` to a "
        "largest one, which grows linearly from `initial_max` to `max` over `growth` updates.",
    )
    scope: Literal["backbone", "all"] = Field(
        default="backbone",
        description="Parameters that the distance to the expert is measured on. `all` is plain "
        "trajectory matching (MTT, DATM).",
    )
    dam: Dam = Field(
        default=Dam(),
        description="The distribution-agnostic loss L_DAM of the inner steps (paper, Sec. 4.1).",
    )


class ClassifierPhase(Section):
    """Matching the classifier expert, on its frozen backbone."""

    syn_steps: int = Field(
        default=60,
        ge=1,
        description="Inner steps T of the student's classifier. They are cheap: all of them share "
        "one pass through the backbone.",
    )
    batch_size: int = Field(
        default=500,
        ge=1,
        description="Synthetic images of each inner step; at most the whole set.",
    )
    expert_epochs: int = Field(
        default=2,
        ge=1,
        description="Epochs of the classifier expert between start and target.",
    )
    start_epochs: StartEpochs = Field(
        default=StartEpochs(),
        description="Epochs of the classifier stage that a segment may start from, drawn as those "
        "of `representation` are.",
    )
