"""What networks are trained on the distilled set and beside it."""

from typing import Literal

from pydantic import Field

from ltdd_ray.config.model import ModelConfig
from ltdd_ray.config.section import Section

EvaluationSet = Literal[
    "distilled",
    "distilled_hard",
    "distilled_calibrated",
    "distilled_8bit",
    "initial",
    "random",
    "k_center",
    "full_ce",
    "full_balanced_softmax",
    "full_decoupled",
]


class FullDataConfig(Section):
    """Training on all the long-tailed images, the reference that small sets are held against."""

    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=256, ge=1)
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=5e-3, ge=0)


class EvaluateConfig(Section):
    networks: int = Field(default=5, ge=1)
    sets: tuple[EvaluationSet, ...] = Field(
        default=("distilled", "random"),
        min_length=1,
        description="What to train on, the run's own result first. `distilled_8bit` has the images of an export, `initial` those "
        "before the first update, `k_center` covers each class in an expert's features, `full_*` are all training images, learned "
        "in one of three ways.",
    )
    models: tuple[ModelConfig, ...] = Field(
        default=(),
        description="Other architectures to train on the first set, beside the run's own model.",
    )
    split: Literal["test", "validation"] = "test"
    epochs: int = Field(default=1000, ge=1)
    batch_size: int = Field(default=128, ge=1)
    lr: float = Field(
        default=0.01, gt=0, description="Rate for sets that did not learn one (random selection)."
    )
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    full_data: FullDataConfig = FullDataConfig()
