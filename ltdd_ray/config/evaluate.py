"""Networks trained on the distilled set, and on the sets it is compared with."""

from typing import Literal

from pydantic import Field, model_validator

from ltdd_ray.config.model import ModelConfig
from ltdd_ray.config.section import Section, refuse_repeats

EvaluationSet = Literal[
    "distilled",
    "distilled_hard",
    "distilled_unaugmented",
    "distilled_calibrated",
    "distilled_8bit",
    "initial",
    "random",
    "random_unaugmented",
    "random_soft",
    "random_soft_unaugmented",
    "k_center",
    "k_center_soft",
    "graph_cut",
    "full_ce",
    "full_balanced_softmax",
    "full_decoupled",
]
# Those that cannot be made without experts, whatever is distilled.
MADE_WITH_EXPERTS = (
    *("random_soft", "random_soft_unaugmented"),
    *("k_center", "k_center_soft", "graph_cut"),
)


class FullDataConfig(Section):
    """Training on all long-tailed images, the reference that small sets are compared with."""

    epochs: int = Field(default=100, ge=1, description="Passes over all training images.")
    batch_size: int = Field(default=256, ge=1, description="Images of each SGD step on all data.")
    lr: float = Field(default=0.01, gt=0, description="Learning rate of SGD on all data.")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Momentum of SGD on all data.")
    weight_decay: float = Field(
        default=5e-3, ge=0, description="L2 penalty of SGD on all data, added to the gradient."
    )


class EvaluateConfig(Section):
    """Networks trained from scratch on each set, and measured on real images."""

    networks: int = Field(
        default=5,
        ge=1,
        description="Networks trained on each set, each from its own random initialisation. "
        "Results are their mean and standard deviation.",
    )
    sets: tuple[EvaluationSet, ...] = Field(
        default=("distilled", "random"),
        min_length=1,
        description="Sets to train on, the run's own result first. `distilled_hard` has class "
        "labels instead of soft ones, `distilled_calibrated` adjusted soft labels, "
        "`distilled_8bit` the images of an export, `initial` those before the first update. "
        "`random` and `k_center` are real images, drawn at random or chosen to cover each class in "
        "an expert's features; `graph_cut` are those like many others of their class and unlike "
        "each other; `random_soft` and `k_center_soft` are the same images with the "
        "experts' labels, as at the start of a distillation. `*_unaugmented` are the same sets, "
        "trained on without augmentation. `full_*` are all training images, learned in one of "
        "three ways. `distilled_hard`, `random_soft` and `full_ce` together give the label-robust "
        "score of DD-Ranking; `random_soft` and the unaugmented `distilled` and `random_soft` its "
        "augmentation-robust score. With hard labels, `random` stands for `random_soft`.",
    )
    models: tuple[ModelConfig, ...] = Field(
        default=(),
        description="Other architectures to train on the first set, besides the run's own model.",
    )
    split: Literal["test", "validation"] = Field(
        default="test",
        description="Images to measure on. Use `validation` while you tune settings; it needs "
        "`data.validation_fraction`.",
    )
    epochs: int = Field(
        default=1000,
        ge=1,
        description="Passes over the set for each network. After half of them the learning rate "
        "is divided by 10.",
    )
    batch_size: int = Field(
        default=128, ge=1, description="Images of each SGD step; at most the whole set."
    )
    lr: float = Field(
        default=0.01,
        gt=0,
        description="Learning rate of SGD on sets that did not learn one, such as `random`.",
    )
    momentum: float = Field(
        default=0.9, ge=0, lt=1, description="Momentum of SGD on each small set."
    )
    weight_decay: float = Field(
        default=5e-4, ge=0, description="L2 penalty of SGD on each small set."
    )
    ce_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the cross-entropy in the loss on soft labels (k1 in RLDD).",
    )
    mse_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the mean squared error to the logits of soft labels (k2 in RLDD). "
        "Hard labels have no logits, so networks learn them by cross-entropy alone.",
    )
    full_data: FullDataConfig = Field(
        default=FullDataConfig(), description="How the sets `full_*` are trained on."
    )

    @model_validator(mode="after")
    def _check(self) -> "EvaluateConfig":
        refuse_repeats("evaluate.sets", self.sets)
        refuse_repeats("evaluate.models", (model.label for model in self.models))
        if not self.ce_weight and not self.mse_weight:
            raise ValueError(
                "evaluate.ce_weight and evaluate.mse_weight are both 0, so networks would learn "
                "nothing; raise one of them"
            )
        return self
