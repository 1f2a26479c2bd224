"""Distribution and gradient matching."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ltdd_ray.config.section import Section


class QueueConfig(Section):
    """IDM's networks."""

    size: int = Field(
        default=10, ge=1, description="Largest number of networks in the queue. Published: 100."
    )
    enter_every: int = Field(
        default=10,
        ge=1,
        description="Updates between two fresh networks. In a full queue each replaces the oldest. "
        "Published: 30.",
    )
    trained: int = Field(
        default=1, ge=1, description="Networks drawn for training after each update. Published: 2."
    )
    steps: int = Field(
        default=5, ge=0, description="SGD steps of each drawn network. Published: 10."
    )
    train_on: Literal["real", "pictures"] = Field(
        default="pictures",
        description="What networks are trained on: `real` images as they are, long-tailed and "
        "without augmentation, as published; or the synthetic `pictures`, augmented. It also "
        "decides what share weighs the pictures' cross-entropy: `real`, the share of all images so "
        "far that the network classified correctly in its own training; `pictures`, that of the "
        "update's real images, equally many of each class.",
    )
    batch_size: int = Field(
        default=128, ge=1, description="Images of each such step. Published: 256."
    )
    lr: float = Field(default=0.01, gt=0, description="Learning rate of these SGD steps.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of these SGD steps.")
    weight_decay: float = Field(
        default=5e-4, ge=0, description="L2 penalty of these SGD steps, added to the gradient."
    )


class GradientConfig(Section):
    """DC's networks."""

    updates_per_network: int = Field(
        default=10,
        ge=1,
        description="Updates of the images under one network, before a fresh one. Published: 10 at "
        "10 images per class, 50 at 50.",
    )
    epochs: int = Field(
        default=10,
        ge=0,
        description="Passes of the network over the synthetic set between two of its updates. "
        "Published: 50 at 10 images per class, 10 at 50.",
    )
    batch_size: int = Field(
        default=256, ge=1, description="Synthetic pictures of each SGD step. Published: 256."
    )
    lr: float = Field(
        default=0.01,
        gt=0,
        description="Learning rate of these SGD steps, without momentum. Published: 0.01.",
    )


class RecoveryConfig(Section):
    """Statistics and initial images of `rldd`."""

    recalibrate: bool = Field(
        default=True,
        description="Whether classes weigh alike in the batch-norm statistics of the experts. "
        "Otherwise images do, as in running averages, and large classes decide.",
    )
    crops: int = Field(
        default=5,
        ge=0,
        description="Crops of each real image that the teacher chooses the initial images from; 0 "
        "for random real images. A class with few images has more of each.",
    )
    statistics_weight: float = Field(
        default=0.1,
        ge=0,
        description="Weight of the distance between the batch-norm statistics of all pictures and "
        "those of the real images.",
    )
    class_statistics_weight: float = Field(
        default=0.1,
        ge=0,
        description="Weight of the same distance class by class, as a mean over classes.",
    )


class Snapshots(Section):
    """The expert snapshots of `tgdd`."""

    min: int = Field(default=1, ge=0, description="First epoch of the representation stage.")
    max: int | None = Field(
        default=10,
        ge=0,
        description="Last epoch, which the trajectories must reach; `null`: their last one. Later "
        "snapshots know the classes better.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> "Snapshots":
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; lower min")
        return self


Share = Annotated[float, Field(ge=0, le=1)]


class DistributionConfig(Section):
    """Distribution and gradient matching."""

    updates: int = Field(
        default=800,
        ge=0,
        description="SGD steps on the images; `distill.updates` does not count here. Published: "
        "20,000; for `dc` 10,000 at 10 images per class.",
    )
    layers: Literal["last", "all"] = Field(
        default="last",
        description="Whose features are compared: the last block's, or those of all blocks of a "
        "ConvNet, as in CAFE (CVPR 2022).",
    )
    distance: Literal["mean", "characteristic"] = Field(
        default="mean",
        description="What is compared of the embeddings of a class's real and synthetic images: "
        "their mean, or their characteristic function (NCFM, CVPR 2025), which holds all moments. "
        "The second distance is at most 2 per class, so `lr_image` and `class_weight` must be "
        "chosen anew.",
    )
    frequencies: int = Field(
        default=256,
        ge=1,
        description="`characteristic`: points at which the functions are compared, drawn anew for "
        "every update.",
    )
    alpha: Share | tuple[Share, ...] = Field(
        default=0.5,
        description="`characteristic`: weight of the difference of amplitudes, which tell how "
        "widely images are spread; 1 minus it is that of phases, which tell where they lie. One "
        "number, or one for each class in label order. 0.5 gives the plain distance.",
    )
    real_batch: int = Field(
        default=64,
        ge=1,
        description="Real images of each class per update; a class with fewer repeats its own. "
        "Published: 256.",
    )
    real_images: Literal["random", "representative"] = Field(
        default="random",
        description="How the real images of an update are chosen: anew at `random`, or "
        "`representative` as in DREAM, those nearest to the centres of `real_batch` k-means "
        "clusters of each class.",
    )
    choose_every: int = Field(
        default=10,
        ge=1,
        description="Updates between two choices of representative images, each in the features "
        "of the network of that update. Published: 10.",
    )
    lr_image: float = Field(
        default=1.0,
        ge=0,
        description="Learning rate of SGD on the images. Published at width 128: 1 for `dm`, 0.2 "
        "for `idm`, 0.1 for `dc`. For `tgdd` and `rldd` the first rate of Adam, about 0.02.",
    )
    momentum_image: float = Field(
        default=0.5, ge=0, lt=1, description="Momentum of SGD on the images. Published: 0.5."
    )
    class_weight: float = Field(
        default=5.0,
        ge=0,
        description="Weight of the pictures' cross-entropy, for `idm`, `tgdd` and `rldd`. For "
        "`idm` it is multiplied by a share of correctly classified images (`queue.train_on`). "
        "Published for `idm`: 50 at 10 images per class and width 128 (0.5 times a share in "
        "percent).",
    )
    snapshots: Snapshots = Field(
        default=Snapshots(),
        description="`tgdd`: epochs of the experts whose networks embed images.",
    )
    recovery: RecoveryConfig = Field(
        default=RecoveryConfig(),
        description="`rldd`: the batch-norm statistics that images recover, and where they start.",
    )
    gradient: GradientConfig = Field(
        default=GradientConfig(),
        description="`dc`: the networks whose gradients are matched. They are trained on the "
        "synthetic images between updates.",
    )
    queue: QueueConfig = Field(
        default=QueueConfig(),
        description="`idm`: the networks that embed images. They are trained between updates.",
    )
