"""One typed, frozen tree for a whole run; ``config_file`` reads it from YAML.

Every key is described where it is declared. Impossible values and combinations fail here, before any work starts.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


EvaluationSet = Literal[
    "distilled",
    "distilled_hard",
    "distilled_calibrated",
    "initial",
    "random",
    "k_center",
    "full_ce",
    "full_balanced_softmax",
    "full_decoupled",
]


class DataConfig(Section):
    """Where images come from and how their class distribution is cut."""

    source: Literal["digits", "cifar10", "cifar100", "tiny_imagenet", "parquet", "imagefolder", "npz"]
    name: str | None = Field(
        default=None, description="What results call the data, and published numbers are looked up by; null for the source."
    )
    path: str | None = Field(
        default=None,
        description="Folder, file or URI: one with train and test inside, or the training part alone.",
    )
    test_path: str | None = Field(default=None, description="Where the test images lie if not inside `path`.")
    test_fraction: float | None = Field(
        default=None, gt=0, lt=1, description="Share of each class held out as a test set when the source has none."
    )
    validation_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each training class held out for tuning; 0 trains on everything."
    )
    download: bool = Field(default=False, description="Let torchvision download CIFAR into `path`.")
    imbalance_factor: float | None = Field(
        default=None, ge=1, description="n_max / n_min of the long-tailed profile; null keeps the natural counts."
    )
    selection: Literal["random", "first"] = Field(
        default="random",
        description="Which images of a class the profile keeps: a fixed random choice, or the first ones in file order.",
    )
    image_size: int | None = Field(
        default=None, ge=8, description="Resize to this many pixels square; null keeps the images' own size."
    )
    normalisation: Literal["standard", "zca"] = Field(default="zca", description="Per-channel standardisation, or ZCA whitening.")


class ModelConfig(Section):
    name: Literal["convnet", "alexnet", "vgg11", "resnet18"] = "convnet"
    width: int = Field(default=128, ge=1, description="Channels of every ConvNet block.")
    depth: int = Field(default=3, ge=1, le=6, description="Blocks of the ConvNet; each halves the image.")
    norm: Literal["instance", "batch", "none"] = "instance"

    @property
    def label(self) -> str:
        """What tables and files call it, equal only for equal networks: convnet3-w128-instance, resnet18-batch, alexnet."""
        if self.name == "alexnet":  # it has neither norm layers nor a width to choose
            return self.name
        return f"convnet{self.depth}-w{self.width}-{self.norm}" if self.name == "convnet" else f"{self.name}-{self.norm}"


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


class QueueConfig(Section):
    """IDM's networks, which are trained while the images are."""

    size: int = Field(default=10, ge=1, description="Most networks at a time; published: 100.")
    enter_every: int = Field(
        default=10, ge=1, description="Updates between two fresh networks, each of which drives out the oldest; published: 30."
    )
    trained: int = Field(default=1, ge=1, description="Networks drawn for training after each update; published: 2.")
    steps: int = Field(default=5, ge=0, description="Steps of SGD they then take; published: 10.")
    batch_size: int = Field(default=128, ge=1, description="Images per step; published: 256.")
    lr: float = Field(default=0.01, gt=0, description="Rate of these steps.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of these steps.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay of these steps.")


class DistributionConfig(Section):
    """Distribution matching: the engines `dm` (Zhao & Bilen, WACV 2023) and `idm` (Zhao et al., CVPR 2023).

    The defaults suit CIFAR-10 and a few minutes of one CPU core; the published values are meant for a GPU.
    """

    updates: int = Field(default=1000, ge=0, description="Steps of the images; published: 20,000.")
    real_batch: int = Field(
        default=64, ge=1, description="Real images of each class per update; a class with fewer repeats its own. Published: 256."
    )
    lr_image: float = Field(default=1.0, ge=0, description="Rate of the images; published: 1 for `dm`, 0.2 for `idm`, at width 128.")
    momentum_image: float = Field(default=0.5, ge=0, lt=1, description="Momentum of the images; published: 0.5.")
    mosaic: int = Field(
        default=2, ge=1, description="`idm`: pictures along each side of an image; they are cut out and enlarged to be trained on."
    )
    class_weight: float = Field(
        default=5.0,
        ge=0,
        description="`idm`: weight of the pictures' cross-entropy, times the share 0..1 of real images that the network gets right. "
        "Published: 50 at 10 images per class and width 128 (0.5 times a share in percent).",
    )
    queue: QueueConfig = QueueConfig()


class DistillConfig(Section):
    ipc: int = Field(ge=1, description="Synthetic images per class; for `idm` each of them holds several pictures.")
    engine: Literal["matching", "dm", "idm"] = Field(
        default="matching", description="Trajectory matching, which needs experts, or distribution matching, which does not."
    )
    distribution: DistributionConfig = DistributionConfig()
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
    initial_labels: Literal["expert", "one_hot"] = Field(
        default="expert",
        description="`expert`: soft labels of `label_expert`, which are learned. `one_hot`: hard labels, which stay as they are, "
        "on images chosen at random.",
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

    @property
    def pictures_per_side(self) -> int:
        """f: networks see a synthetic image as f x f pictures, each of which the distilled set stores as an image of its own."""
        return self.distribution.mosaic if self.engine == "idm" else 1

    @property
    def pictures_per_image(self) -> int:
        return self.pictures_per_side**2


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
        description="What to train on, the run's own result first. `initial` is the set before its first update, `k_center` covers "
        "each class in an expert's features, `full_*` are all training images, learned in one of three ways.",
    )
    models: tuple[ModelConfig, ...] = Field(
        default=(), description="Other architectures to train on the first set, beside the run's own model."
    )
    split: Literal["test", "validation"] = "test"
    epochs: int = Field(default=1000, ge=1)
    batch_size: int = Field(default=128, ge=1)
    lr: float = Field(default=0.01, gt=0, description="Rate for sets that did not learn one (random selection).")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    full_data: FullDataConfig = FullDataConfig()


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

    @property
    def evaluation_models(self) -> dict[str, ModelConfig]:
        """Every architecture of the evaluation by its label, the run's own first."""
        return {model.label: model for model in (self.model, *self.evaluate.models)}

    @property
    def distils(self) -> bool:
        """Whether anything that is evaluated comes from a distillation."""
        return any(name == "initial" or name.startswith("distilled") for name in self.evaluate.sets)

    @property
    def needs_experts(self) -> bool:
        return (self.distils and self.distill.engine == "matching") or "k_center" in self.evaluate.sets

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if self.distill.engine == "matching":
            _check_matching(self)
        if self.evaluate.split == "validation" and not self.data.validation_fraction:
            raise ValueError("evaluate.split is validation but data.validation_fraction is 0; hold out a share, for example 0.2")
        return self


def _check_matching(config: RunConfig) -> None:
    distill, experts = config.distill, config.experts
    kept = experts.representation.epochs if experts.keep_epochs is None else min(experts.keep_epochs, experts.representation.epochs)
    _segment_fits("representation", distill.representation, kept)
    _segment_fits("classifier", distill.classifier, experts.classifier.epochs)
    if not distill.lambda_rep and not distill.lambda_cls:
        raise ValueError("distill.lambda_rep and distill.lambda_cls are both 0, so there is nothing to match; raise one of them")
    if distill.micro_batch and (distill.hypergradient == "unrolled" or config.model.norm == "batch"):
        raise ValueError(
            f"distill.micro_batch {distill.micro_batch} needs hypergradient exact or first_order and "
            "model.norm instance or none; set it to null"
        )


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
