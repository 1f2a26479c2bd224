"""Distillation: by matching trajectories, or by matching distributions."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ltdd_ray.config.section import Section


class Dam(Section):
    """The two knobs of the distribution-agnostic loss (design: L_DAM)."""

    class_weights: Literal["none", "frequency", "mean_one"] = Field(
        default="frequency", description="g: 1, s_k, or C s_k."
    )
    lambda_prior: float = Field(
        default=0.0, ge=0, description="lambda: weight of log s in the logits."
    )


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
    batch_size: int = Field(
        default=500,
        ge=1,
        description="Synthetic images per inner step; capped at the size of the set.",
    )
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
        default=10,
        ge=1,
        description="Updates between two fresh networks, each of which drives out the oldest; published: 30.",
    )
    trained: int = Field(
        default=1, ge=1, description="Networks drawn for training after each update; published: 2."
    )
    steps: int = Field(default=5, ge=0, description="Steps of SGD they then take; published: 10.")
    batch_size: int = Field(default=128, ge=1, description="Images per step; published: 256.")
    lr: float = Field(default=0.01, gt=0, description="Rate of these steps.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of these steps.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay of these steps.")


class DistributionConfig(Section):
    """Distribution matching: the engines `dm` (Zhao & Bilen, WACV 2023) and `idm` (Zhao et al., CVPR 2023).

    The defaults suit CIFAR-10 and a few minutes of one CPU core; the published values are meant for a GPU.
    """

    updates: int = Field(default=800, ge=0, description="Steps of the images; published: 20,000.")
    real_batch: int = Field(
        default=64,
        ge=1,
        description="Real images of each class per update; a class with fewer repeats its own. Published: 256.",
    )
    lr_image: float = Field(
        default=1.0,
        ge=0,
        description="Rate of the images; published: 1 for `dm`, 0.2 for `idm`, at width 128.",
    )
    momentum_image: float = Field(
        default=0.5, ge=0, lt=1, description="Momentum of the images; published: 0.5."
    )
    class_weight: float = Field(
        default=5.0,
        ge=0,
        description="`idm`: weight of the pictures' cross-entropy, times the share of real images that the network gets right. "
        "Published: 50 at 10 images per class and width 128 (0.5 times a share in percent).",
    )
    queue: QueueConfig = QueueConfig()


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
    ipc: int | None = Field(
        default=None,
        ge=1,
        description="Synthetic images per class, null where `budget` says it; for `idm` each of them holds several pictures.",
    )
    budget: Budget | None = Field(
        default=None, description="Instead of `ipc`: numbers of images that differ between classes."
    )
    pictures_per_side: int = Field(
        default=1,
        ge=1,
        description="f: a stored image is a mosaic of f x f pictures, which networks see cut out and "
        "enlarged, each with a label of its own. Batch sizes count pictures. With 2 a set of equal "
        "bytes shows four times as many pictures at half the resolution.",
    )
    engine: Literal["matching", "dm", "idm"] = Field(
        default="matching",
        description="Trajectory matching, which needs experts, or distribution matching, which does not.",
    )
    distribution: DistributionConfig = DistributionConfig()
    updates: int = Field(default=10_000, ge=0)
    segments_per_update: int = Field(
        default=1,
        ge=1,
        description="Expert segments averaged in one update, over all workers together.",
    )
    hypergradient: Literal["exact", "first_order", "unrolled"] = "exact"
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="Most images to go through the network at once, for batches larger than memory.",
    )
    lambda_rep: float = Field(default=1.0, ge=0)
    lambda_cls: float = Field(default=0.5, ge=0)
    representation: RepresentationPhase = RepresentationPhase()
    classifier: ClassifierPhase = ClassifierPhase()
    label_expert: Literal["classifier", "representation"] = Field(
        default="classifier",
        description="Whose mean logits initialise the soft labels and judge the initial images.",
    )
    initial_labels: Literal["expert", "one_hot"] = Field(
        default="expert",
        description="`expert`: soft labels of `label_expert`, which are learned. `one_hot`: hard labels, which stay as they are, "
        "on images chosen at random.",
    )
    lr_image: float = Field(default=1000.0, ge=0)
    momentum_image: float = Field(default=0.5, ge=0, lt=1)
    largest_image_step: float = Field(
        default=0.1,
        gt=0,
        description="Root mean square, in model space, to which a longer step of the images is shortened.",
    )
    lr_label: float = Field(default=2.0, ge=0)
    momentum_label: float = Field(default=0.9, ge=0, lt=1)
    syn_lr: float = Field(default=0.01, gt=0, description="Initial inner learning rate alpha.")
    lr_syn_lr: float = Field(
        default=0.1, ge=0, description="Step size for log(alpha); alpha = exp(.) stays positive."
    )
    momentum_syn_lr: float = Field(default=0.5, ge=0, lt=1)
    largest_rate_step: float = Field(
        default=0.1, gt=0, description="Change of log(alpha) to which a longer step is shortened."
    )
    checkpoint_every: int = Field(default=100, ge=1)

    @property
    def pictures_per_image(self) -> int:
        """f^2."""
        return self.pictures_per_side**2

    @model_validator(mode="after")
    def _how_many(self) -> "DistillConfig":
        if self.ipc is None and self.budget is None:
            raise ValueError(
                "`distill.ipc` is missing; set it in the file or with --set distill.ipc=..."
            )
        if self.ipc is not None and self.budget is not None:
            raise ValueError(
                f"distill.ipc {self.ipc} and distill.budget both say how many images; set distill.ipc to null"
            )
        if self.budget is not None and self.engine != "matching":
            raise ValueError(
                f"distill.budget needs engine matching, not {self.engine}; set distill.ipc instead"
            )
        return self
