"""The two stages of an expert, and how many there are."""

from typing import Literal

from pydantic import Field

from ltdd_ray.config.section import Section


class RepresentationStage(Section):
    """The whole network on the long-tailed images (paper, Sec. 4.2)."""

    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=256, ge=1)
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=5e-3, ge=0)
    sharpness: Literal["none", "sam", "gsam"] = Field(
        default="gsam", description="Sharpness-aware minimisation; costs a second pass per step."
    )
    rho: float = Field(default=0.01, gt=0, description="SAM's ascent radius.")
    alpha: float = Field(default=0.3, ge=0, description="GSAM's weight of the surrogate gap.")


class ClassifierStage(Section):
    """The classifier alone on class-balanced samples, the backbone frozen at the representation stage's last epoch."""

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=256, ge=1)
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    samples_per_class: int = Field(
        default=4,
        ge=1,
        description="Images of one class drawn in a row by the class-aware sampler.",
    )
    max_norm: float | None = Field(
        default=0.1,
        ge=0,
        le=1,
        description="MaxNorm: cap classifier rows at min + this (max - min) of their initial norms; null for none.",
    )


class ExpertsConfig(Section):
    count: int = Field(default=100, ge=1)
    store: str | None = Field(
        default=None,
        description="Folder or URI of the trajectory store; null for the run's own `experts` folder.",
    )
    dtype: Literal["float32", "float16"] = "float32"
    keep_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Keep representation epochs 0..this and the last one; null keeps all.",
    )
    representation: RepresentationStage = RepresentationStage()
    classifier: ClassifierStage = ClassifierStage()
