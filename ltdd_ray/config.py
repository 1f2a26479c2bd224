"""One typed, frozen tree for a whole run; ``config_file`` reads it from YAML.

Every key is described where it is declared. Impossible values and combinations fail here, before any work starts.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Where images come from and how their class distribution is cut."""

    source: Literal["digits", "cifar10", "cifar100", "tiny_imagenet", "imagenet_lt", "parquet", "imagefolder", "npz"]
    path: str | None = Field(
        default=None,
        description="Folder, file or URI: one with train and test inside, or the training part alone.",
    )
    test_path: str | None = Field(default=None, description="Where the test images lie if not inside `path`.")
    train_list: str | None = Field(default=None, description="File of lines `relative/path label` (source imagenet_lt).")
    test_list: str | None = Field(default=None, description="The same for the test images.")
    cache: str | None = Field(
        default=None, description="Folder for the decoded images of imagenet_lt, seen by all nodes; one run at a time may fill it."
    )
    test_fraction: float | None = Field(
        default=None, gt=0, lt=1, description="Share of each class held out as a test set when the source has none."
    )
    validation_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each training class held out for tuning; 0 trains on everything."
    )
    labelled_fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the training images, drawn at random, that is trained on, the others' labels being forgotten; null "
        "for all.",
    )
    class_counts: Literal["known", "estimate"] = Field(
        default="known",
        description="`estimate`: matching reckons with the class counts of all images, with and without label, as estimated from "
        "the pixels of the latter.",
    )
    download: bool = Field(default=False, description="Let torchvision download CIFAR into `path`.")
    imbalance_factor: float | None = Field(
        default=None, ge=1, description="n_max / n_min of the long-tailed profile; null keeps the natural counts."
    )
    largest_class: int | None = Field(
        default=None,
        ge=1,
        description="n_max of the profile, a class with fewer than its n_k images giving all it has; null for the source's largest "
        "class, any class short of its n_k being an error.",
    )
    selection: Literal["random", "first"] = Field(
        default="random",
        description="Which images of a class the profile keeps: a fixed random choice, or the first ones in file order.",
    )
    image_size: int | None = Field(
        default=None, ge=8, description="Resize to this many pixels square; null keeps the images' own size."
    )
    normalisation: Literal["standard", "zca"] = Field(default="zca", description="Per-channel standardisation, or ZCA whitening.")

    @model_validator(mode="after")
    def _profile(self) -> "DataConfig":
        if self.largest_class is not None and self.imbalance_factor is None:
            raise ValueError(f"data.largest_class {self.largest_class} needs data.imbalance_factor; set both or none")
        return self

    @model_validator(mode="after")
    def _labels(self) -> "DataConfig":
        if self.class_counts == "estimate" and self.labelled_fraction is None:
            raise ValueError("data.class_counts estimate needs unlabelled images; set data.labelled_fraction, for example 0.2")
        return self


class ModelConfig(Section):
    name: Literal["convnet", "alexnet", "vgg11", "resnet18"] = "convnet"
    width: int = Field(default=128, ge=1, description="Channels of every ConvNet block.")
    depth: int = Field(default=3, ge=1, le=6, description="Blocks of the ConvNet; each halves the image.")
    norm: Literal["instance", "batch", "none"] = "instance"


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
    samples_per_class: int = Field(default=4, ge=1, description="Images of one class drawn in a row by the class-aware sampler.")
    max_norm: float | None = Field(
        default=0.1,
        ge=0,
        le=1,
        description="MaxNorm: cap classifier rows at min + this (max - min) of their initial norms; null for none.",
    )


class ExpertsConfig(Section):
    count: int = Field(default=100, ge=1)
    store: str | None = Field(
        default=None, description="Folder or URI of the trajectory store; null for the run's own `experts` folder."
    )
    dtype: Literal["float32", "float16"] = "float32"
    keep_epochs: int | None = Field(
        default=None, ge=1, description="Keep representation epochs 0..this and the last one; null keeps all."
    )
    representation: RepresentationStage = RepresentationStage()
    classifier: ClassifierStage = ClassifierStage()


class Dam(Section):
    """The two knobs of the distribution-agnostic loss (design: L_DAM)."""

    class_weights: Literal["none", "frequency", "mean_one"] = Field(
        default="frequency", description="g: 1, (s_k + f)/(1 + f), or C s_k."
    )
    frequency_floor: float = Field(default=0.0, ge=0, description="f of `frequency`.")
    lambda_prior: float = Field(default=0.0, ge=0, description="lambda: weight of log s in the logits.")


class StartEpochs(Section):
    """Start epochs are uniform in [min, m], m growing linearly from `initial_max` to `max` over the first `growth` updates."""

    min: int = Field(default=0, ge=0)
    max: int = Field(default=0, ge=0)
    initial_max: int | None = Field(default=None, ge=0, description="null starts at `max`.")
    growth: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "StartEpochs":
        first = self.max if self.initial_max is None else self.initial_max
        if not self.min <= first <= self.max:
            raise ValueError(
                f"start epochs must satisfy min <= initial_max <= max, got min {self.min}, initial_max {first}, max {self.max}"
            )
        return self


class RepresentationPhase(Section):
    syn_steps: int = Field(default=80, ge=1)
    batch_size: int = Field(default=500, ge=1, description="Synthetic images per inner step; capped at the size of the set.")
    expert_epochs: int = Field(default=2, ge=1)
    start_epochs: StartEpochs = StartEpochs(max=40)
    scope: Literal["backbone", "all"] = Field(
        default="backbone", description="S of l_S: what the distance to the expert is measured on."
    )
    dam: Dam = Dam()


class ClassifierPhase(Section):
    syn_steps: int = Field(default=60, ge=1)
    batch_size: int = Field(default=500, ge=1)
    expert_epochs: int = Field(default=2, ge=1)
    start_epochs: StartEpochs = StartEpochs()


class Budget(Section):
    """Synthetic images that classes do not get alike: a total and how it is shared out, or a number for every class."""

    images: int | None = Field(default=None, ge=1, description="All synthetic images together.")
    share: Literal["equal", "count"] = Field(
        default="equal",
        description="How `images` are shared out: alike, or in proportion to the training images; at least one each.",
    )
    per_class: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None, description="Images of each class, in label order."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> "Budget":
        if (self.images is None) == (self.per_class is None):
            raise ValueError("distill.budget takes either images or per_class; set one of them")
        return self


class DistillConfig(Section):
    ipc: int | None = Field(default=None, ge=1, description="Synthetic images per class; null where `budget` says it.")
    budget: Budget | None = Field(default=None, description="Instead of `ipc`: numbers of images that differ between classes.")
    updates: int = Field(default=10_000, ge=0)
    segments_per_update: int = Field(
        default=1, ge=1, description="Expert segments averaged in one update, over all workers together."
    )
    hypergradient: Literal["exact", "first_order", "unrolled"] = "exact"
    micro_batch: int | None = Field(
        default=None, ge=1, description="Most images to go through the network at once, for batches larger than memory."
    )
    lambda_rep: float = Field(default=1.0, ge=0)
    lambda_cls: float = Field(default=0.5, ge=0)
    representation: RepresentationPhase = RepresentationPhase()
    classifier: ClassifierPhase = ClassifierPhase()
    label_expert: Literal["classifier", "representation"] = Field(
        default="classifier", description="Whose mean logits initialise the soft labels and judge the initial images."
    )
    lr_image: float = Field(default=1000.0, ge=0)
    momentum_image: float = Field(default=0.5, ge=0, lt=1)
    largest_image_step: float = Field(
        default=0.1, gt=0, description="Root mean square, in model space, to which a longer step of the images is shortened."
    )
    lr_label: float = Field(default=2.0, ge=0)
    momentum_label: float = Field(default=0.9, ge=0, lt=1)
    syn_lr: float = Field(default=0.01, gt=0, description="Initial inner learning rate alpha.")
    lr_syn_lr: float = Field(default=0.1, ge=0, description="Step size for log(alpha); alpha = exp(.) stays positive.")
    momentum_syn_lr: float = Field(default=0.5, ge=0, lt=1)
    largest_rate_step: float = Field(default=0.1, gt=0, description="Change of log(alpha) to which a longer step is shortened.")
    checkpoint_every: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _how_many(self) -> "DistillConfig":
        if self.ipc is None and self.budget is None:
            raise ValueError("`distill.ipc` is missing; set it in the file or with --set distill.ipc=...")
        if self.ipc is not None and self.budget is not None:
            raise ValueError(f"distill.ipc {self.ipc} and distill.budget both say how many images; set distill.ipc to null")
        return self


class EvaluateConfig(Section):
    networks: int = Field(default=5, ge=1)
    sets: tuple[Literal["distilled", "random", "initial"], ...] = Field(
        default=("distilled", "random"), min_length=1, description="What to train on; `initial` is the set before its first update."
    )
    split: Literal["test", "validation"] = "test"
    epochs: int = Field(default=1000, ge=1)
    batch_size: int = Field(default=128, ge=1)
    lr: float = Field(default=0.01, gt=0, description="Rate for sets that did not learn one (random selection).")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)


class ComputeConfig(Section):
    """Where and how wide. Nothing here may change a result beyond float reassociation."""

    address: str | None = Field(default=None, description="Ray cluster to join; null starts one on this machine.")
    num_cpus: int | None = Field(default=None, ge=1, description="CPUs of a cluster started here; null for all.")
    num_actors: int = Field(default=2, ge=1)
    cpus_per_actor: float = Field(default=1, ge=0)
    gpus_per_actor: float = Field(default=0, ge=0)
    num_workers: int = Field(default=2, ge=1, description="DDP workers of the distillation job.")
    cpus_per_worker: float = Field(default=1, ge=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1, description="torch threads of each actor and worker.")
    cache_gb: float = Field(
        default=4, ge=0, description="Local disk of each distillation worker for rows of a store on an object store, in 10^9 bytes."
    )
    max_failures: int = Field(default=3, ge=0, description="Lost actors or workers survived by one stage.")


class RunConfig(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    output: str = Field(default="runs", description="Parent of the run's folder.")
    method: str = Field(default="ltdd", description="What results and report call the distilled set.")
    seed: int = Field(default=0, ge=0)
    data: DataConfig
    model: ModelConfig = ModelConfig()
    augmentation: str = Field(
        default="color_crop_cutout_flip_scale_rotate",
        description="DSA operations joined by `_`, one drawn per batch; empty for none.",
    )
    experts: ExpertsConfig = ExpertsConfig()
    distill: DistillConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    compute: ComputeConfig = ComputeConfig()

    @property
    def folder(self) -> Path:
        return Path(self.output) / self.name

    @property
    def store_uri(self) -> str:
        return self.experts.store or str(self.folder / "experts")

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        distill, experts = self.distill, self.experts
        kept = (
            experts.representation.epochs
            if experts.keep_epochs is None
            else min(experts.keep_epochs, experts.representation.epochs)
        )
        _segment_fits("representation", distill.representation, kept)
        _segment_fits("classifier", distill.classifier, experts.classifier.epochs)
        if not distill.lambda_rep and not distill.lambda_cls:
            raise ValueError(
                "distill.lambda_rep and distill.lambda_cls are both 0, so there is nothing to match; raise one of them"
            )
        if distill.micro_batch and (distill.hypergradient == "unrolled" or self.model.norm == "batch"):
            raise ValueError(
                f"distill.micro_batch {distill.micro_batch} needs hypergradient exact or first_order and "
                "model.norm instance or none; set it to null"
            )
        if self.evaluate.split == "validation" and not self.data.validation_fraction:
            raise ValueError("evaluate.split is validation but data.validation_fraction is 0; hold out a share, for example 0.2")
        return self


def _segment_fits(stage: str, phase: RepresentationPhase | ClassifierPhase, last_epoch: int) -> None:
    end = phase.start_epochs.max + phase.expert_epochs
    if end > last_epoch:
        raise ValueError(
            f"distill.{stage}: start_epochs.max {phase.start_epochs.max} + expert_epochs {phase.expert_epochs} = {end} lies beyond "
            f"the trajectory, whose last kept epoch is {last_epoch}; lower them or train experts.{stage} longer"
        )


def fingerprint(*parts: Any) -> str:
    """Hash of config sections, strings and numbers: equal exactly when all of them are equal. 16 hex digits."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def result_fingerprint(config: RunConfig) -> str:
    """Identity of a run's outcome: everything but where it is written and how widely it is spread."""
    tree = config.model_dump(mode="json", exclude={"compute": True, "output": True, "name": True, "experts": {"store"}})
    return fingerprint(tree)
