"""The two stages of an expert, and the number of experts."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ltdd_ray.config.section import Section, as_path


class RepresentationStage(Section):
    """The whole network on the long-tailed images."""

    epochs: int = Field(
        default=100,
        ge=1,
        description="Passes over the training images. Must reach `distill.representation."
        "start_epochs.max` + `expert_epochs`.",
    )
    batch_size: int = Field(default=256, ge=1, description="Images of each SGD step.")
    lr: float = Field(
        default=0.01,
        gt=0,
        description="Learning rate of SGD. Published: 0.01; a short training needs a higher one.",
    )
    schedule: Literal["constant", "cosine"] = Field(
        default="constant",
        description="Learning rate over the stage: `constant`, as published, or falling from `lr` "
        "to 0 along half a cosine, which gives better labels after a short training.",
    )
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Momentum of SGD. Published: 0.")
    criterion: Literal["cross_entropy", "balanced_softmax", "debiased"] = Field(
        default="cross_entropy",
        description="Loss. `cross_entropy`, as published, gives experts that favour large classes. "
        "`balanced_softmax` adds the log class prior to the logits in training, so the network "
        "treats classes alike (Ren et al., NeurIPS 2020). `debiased` is that of RLDD (AAAI 2026): "
        "two mixed views of a batch with similar features, and a cross-entropy that turns from "
        "images to classes. It takes twice the time and needs `sharpness: none`.",
    )
    reweighting: float = Field(
        default=0.8,
        ge=0,
        description="`debiased`: q; at the end of the stage an image weighs its class's share of "
        "the images to the power -q. Published: 0.8.",
    )
    weight_decay: float = Field(
        default=5e-3, ge=0, description="L2 penalty of SGD, added to the gradient."
    )
    sharpness: Literal["none", "sam", "gsam"] = Field(
        default="gsam",
        description="Sharpness-aware minimisation (SAM or GSAM). It takes a second gradient per "
        "step, so `none` takes about half the time.",
    )
    rho: float = Field(
        default=0.01, gt=0, description="Radius of SAM's ascent step, in parameter space."
    )
    alpha: float = Field(
        default=0.3, ge=0, description="Weight of GSAM's surrogate gap; `sam` ignores it."
    )
    adaptive: bool = Field(
        default=False,
        description="Scale the ascent step by the size of each parameter, as in ASAM. Published: "
        "true.",
    )

    @model_validator(mode="after")
    def _one_gradient(self) -> "RepresentationStage":
        if self.criterion == "debiased" and self.sharpness != "none":
            raise ValueError(
                f"criterion debiased excludes sharpness {self.sharpness}; set it to none"
            )
        return self


class ClassifierStage(Section):
    """The classifier alone on class-balanced samples."""

    epochs: int = Field(
        default=10,
        ge=1,
        description="Passes of the class-aware sampler, each C times the largest class. Must reach "
        "`distill.classifier.start_epochs.max` + `expert_epochs`.",
    )
    batch_size: int = Field(default=256, ge=1, description="Images of each step of this stage.")
    lr: float = Field(default=0.01, gt=0, description="Learning rate of SGD on the classifier.")
    momentum: float = Field(
        default=0.0, ge=0, lt=1, description="Momentum of SGD on the classifier."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="L2 penalty of SGD on the classifier."
    )
    samples_per_class: int = Field(
        default=4,
        ge=1,
        description="Images of one class that the class-aware sampler draws in a row.",
    )
    max_norm: float | None = Field(
        default=0.1,
        ge=0,
        le=1,
        description="MaxNorm: caps the norms of classifier rows at min + this (max - min) of their "
        "initial norms, so that head classes do not dominate; null for no cap. The authors' files "
        "name 0.1, but their training code applies no cap.",
    )
    sharpness: Literal["none", "sam", "gsam"] = Field(
        default="none",
        description="Sharpness-aware minimisation of the classifier. Published: `gsam`.",
    )
    rho: float = Field(
        default=0.01, gt=0, description="Radius of SAM's ascent step, in classifier parameters."
    )
    alpha: float = Field(
        default=0.3, ge=0, description="Weight of GSAM's surrogate gap; `sam` ignores it."
    )
    adaptive: bool = Field(
        default=False,
        description="Scale that ascent step by the size of each parameter, as in ASAM. Published: "
        "true.",
    )


class ExpertsConfig(Section):
    """The experts whose trajectories the student is matched with."""

    count: int = Field(
        default=100,
        ge=1,
        description="Experts, each from its own random initialisation. Published: 100. Training "
        "time and disk grow in proportion.",
    )
    store: str | None = Field(
        default=None,
        description="Folder or URI of the trajectory store; null for `experts` in the run's own "
        "folder. Name one to share experts between runs.",
    )
    norm: Literal["instance", "batch", "none"] | None = Field(
        default=None,
        description="Normalisation layer of the experts; null for that of `model`. The engine "
        "`rldd` needs `batch`, the engines that match experts need that of `model`.",
    )
    dtype: Literal["float32", "float16"] = Field(
        default="float32",
        description="Number format of the store. `float16` takes half the disk, at a relative "
        "error of 2e-4.",
    )
    keep_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Keep representation epochs 0 to this one, and the last; null keeps all. "
        "Matching needs no epoch after `start_epochs.max` + `expert_epochs`.",
    )
    representation: RepresentationStage = Field(
        default=RepresentationStage(),
        description="First stage: the whole network, on the long-tailed images (paper, Sec. 4.2).",
    )
    classifier: ClassifierStage = Field(
        default=ClassifierStage(),
        description="Second stage: the classifier alone, on class-balanced samples. The backbone "
        "is frozen at the last epoch of the first stage.",
    )

    @field_validator("store")
    @classmethod
    def _home(cls, path: str | None) -> str | None:
        return as_path(path)
