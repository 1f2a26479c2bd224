"""Distillation: how large the synthetic set is, and how it is learned."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ltdd_ray.config.distribution import DistributionConfig
from ltdd_ray.config.matching import ClassifierPhase, RepresentationPhase
from ltdd_ray.config.section import Section


class Budget(Section):
    """Synthetic images whose number differs between classes."""

    images: int | None = Field(
        default=None, ge=1, description="Synthetic images of all classes together."
    )
    share: Literal["equal", "count"] = Field(
        default="equal",
        description="How `images` are shared out: equally, or in proportion to the training images "
        "of each class (`count`). Every class gets at least one.",
    )
    per_class: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None, description="Synthetic images of each class, in label order."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> "Budget":
        if (self.images is None) == (self.per_class is None):
            raise ValueError("distill.budget takes either images or per_class; set one of them")
        return self


class ChecksConfig(Section):
    """Scores of the set during distillation, on held-out training images."""

    every: int | None = Field(
        default=None,
        ge=1,
        description="Updates between two checks; null for none. A check trains one network on the "
        "set and scores it on the images of `data.validation_fraction`.",
    )
    epochs: int = Field(
        default=100,
        ge=1,
        description="Epochs of that network. Fewer make checks cheaper and rank sets less surely; "
        "the run reports the share of time that checks took.",
    )


class DistillConfig(Section):
    """The synthetic set: its size, its start and its optimisation."""

    ipc: int | None = Field(
        default=None,
        ge=1,
        description="Synthetic images per class; null if `budget` gives their number. Each of "
        "them shows `pictures_per_side`^2 pictures.",
    )
    budget: Budget | None = Field(
        default=None,
        description="Instead of `ipc`, for numbers of images that differ between classes: a total "
        "to share out, or a number for each class.",
    )
    pictures_per_side: int = Field(
        default=1,
        ge=1,
        description="Pictures along each side of a stored image, f. Networks see the f x f "
        "pictures cut out and enlarged, each with its own label. Batch sizes count pictures. With "
        "2 a set of equal bytes shows four times as many pictures at half the resolution.",
    )
    bits: Literal[8] | None = Field(
        default=None,
        description="Bits of a pixel value. With 8 the images are rounded in every update, and "
        "their gradient passes straight through the rounding, so an export in 8 bits loses "
        "nothing. null for exact numbers of 32 bits.",
    )
    engine: Literal["matching", "dc", "dm", "idm", "tgdd", "rldd"] = Field(
        default="matching",
        description="Trajectory matching, gradient matching (`dc`), or distribution matching: "
        "under fresh networks (`dm`), networks trained along the way (`idm`), the experts' "
        "snapshots (`tgdd`), or of the batch-norm statistics of trained experts (`rldd`).",
    )
    distribution: DistributionConfig = Field(
        default=DistributionConfig(),
        description="Settings of the engines `dc` (Zhao et al., ICLR 2021), `dm` (Zhao & Bilen, "
        "WACV 2023), `idm` (Zhao et al., CVPR 2023), `tgdd` and `rldd` (AAAI 2026). The defaults "
        "suit CIFAR-10 and a few minutes of one CPU core; the published values are for a GPU.",
    )
    updates: int = Field(
        default=10_000,
        ge=0,
        description="Steps of SGD on the synthetic set. Time grows in proportion. Published: "
        "10,000; 0 keeps the initial set.",
    )
    segments_per_update: int = Field(
        default=1,
        ge=1,
        description="Expert segments averaged in one update, over all workers together. More make "
        "updates less noisy, and let more workers take part.",
    )
    hypergradient: Literal["exact", "first_order", "unrolled"] = Field(
        default="exact",
        description="Gradient of the matching loss with respect to the set. `exact`: walks back "
        "through the inner steps, with the memory of one step. `first_order`: an approximation, as "
        "published. `unrolled`: autograd through all steps; equals `exact`, but memory grows with "
        "`syn_steps`.",
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="Largest number of images in one pass through the network; null for the whole "
        "batch. Lower it when memory runs out; the result stays the same up to the order of sums.",
    )
    lambda_rep: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the representation loss in the objective; 0 leaves the phase out. "
        "Gradients scale with it, so it also scales the steps of the images. `ltdd-ray search` "
        "tunes it.",
    )
    lambda_cls: float = Field(
        default=0.5,
        ge=0,
        description="Weight of the classifier loss in the objective; 0 leaves the phase out, as in "
        "MTT and DATM. `ltdd-ray search` tunes it.",
    )
    representation: RepresentationPhase = Field(
        default=RepresentationPhase(),
        description="Matching the representation expert, which was trained on the long-tailed "
        "images.",
    )
    classifier: ClassifierPhase = Field(
        default=ClassifierPhase(),
        description="Matching the classifier expert: only the classifier moves, on the expert's "
        "frozen backbone.",
    )
    label_expert: Literal["classifier", "representation"] = Field(
        default="classifier",
        description="Stage of the experts that gives the initial soft labels (their mean logits), "
        "and whose correct predictions choose the initial images.",
    )
    initial_labels: Literal["expert", "one_hot"] = Field(
        default="expert",
        description="`expert`: soft labels from `label_expert`, which are then learned. `one_hot`: "
        "hard labels, which are not learned, on images chosen at random.",
    )
    initial_images: Literal["correct", "first_expert", "random", "noise"] = Field(
        default="correct",
        description="Images to start from. `correct`: real ones that most experts predict "
        "correctly, then others. `first_expert`: those that expert 0 predicts correctly, repeated "
        "where a class lacks them, as published for CIFAR-10. `random`: any real ones, as "
        "published for CIFAR-100 and Tiny-ImageNet. `noise`: standard normal pixels in model "
        "space.",
    )
    initial_label_rule: Literal["right_experts", "one_expert", "all_experts"] = Field(
        default="right_experts",
        description="Experts whose mean logits are the initial soft labels: those that predict "
        "the image correctly, as published for CIFAR-10; expert 0 alone, as published for "
        "CIFAR-100 and Tiny-ImageNet; or all.",
    )
    label_temperature: float = Field(
        default=1.0,
        gt=0,
        description="The initial soft-label logits are divided by this. Above 1 labels start less "
        "certain, below 1 more certain. Published: 1. `one_hot` labels have no temperature.",
    )
    lr_image: float = Field(
        default=1000.0,
        ge=0,
        description="Learning rate of SGD on the images, in model space; 0 keeps them. Raise it if "
        "images hardly change, lower it if losses jump or are not finite.",
    )
    momentum_image: float = Field(
        default=0.5, ge=0, lt=1, description="Momentum of SGD on the images."
    )
    largest_image_step: float = Field(
        default=0.1,
        gt=0,
        description="Longest step of the images, as a root mean square over pixels in model space, "
        "without momentum. Longer steps are shortened to it.",
    )
    lr_label: float = Field(
        default=2.0,
        ge=0,
        description="Learning rate of SGD on the soft-label logits; 0 keeps the labels.",
    )
    momentum_label: float = Field(
        default=0.9, ge=0, lt=1, description="Momentum of SGD on the soft-label logits."
    )
    syn_lr: float = Field(
        default=0.01,
        gt=0,
        description="Initial learning rate alpha of the inner steps; it is learned. Raise it if "
        "the matching loss starts just below 1 (the student hardly moves), lower it if it starts "
        "far above 1 (the student overshoots).",
    )
    lr_syn_lr: float = Field(
        default=0.1,
        ge=0,
        description="Learning rate of SGD on log(alpha); 0 keeps alpha. The logarithm keeps alpha "
        "positive.",
    )
    momentum_syn_lr: float = Field(
        default=0.5, ge=0, lt=1, description="Momentum of SGD on log(alpha)."
    )
    largest_rate_step: float = Field(
        default=0.1,
        gt=0,
        description="Largest change of log(alpha) in one update, without momentum. Longer steps "
        "are shortened to it.",
    )
    skip_loss_above: float | None = Field(
        default=None,
        gt=0,
        description="Skip an update in which the matching loss of a phase, as a mean over its "
        "segments, is larger than this; null for never. The set and its momentum then stay as "
        "they are. Published for DATM: 1.",
    )
    checks: ChecksConfig = Field(
        default=ChecksConfig(),
        description="Checks on held-out training images, which show whether updates still help.",
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="Which iterate is the result: the last, as published, or the one with the best "
        "check, the initial set included. `best` needs `checks.every`.",
    )
    checkpoint_every: int = Field(
        default=100,
        ge=1,
        description="Updates between two checkpoints. A run that was killed repeats at most this "
        "many updates.",
    )

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
                f"distill.ipc {self.ipc} and distill.budget both say how many images; set "
                "distill.ipc to null"
            )
        return self
