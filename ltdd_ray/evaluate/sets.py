"""The sets that networks are trained on: every name of ``evaluate.sets`` and how its set is made.

P pictures, C classes, K x H x W image shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ltdd_ray.common.device import default_device
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import picture_budget, repeated
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import PreparedData, model_space
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.formation import as_pictures
from ltdd_ray.distill.trajectory.start import expert_label_logits, expert_logits
from ltdd_ray.evaluate.calibration import calibrate
from ltdd_ray.evaluate.full_data import FULL_DATA, full_data_epochs
from ltdd_ray.evaluate.graph_cut import graph_cut
from ltdd_ray.evaluate.k_center import k_center
from ltdd_ray.evaluate.selection import expert_features, select_by_class
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.store import TrajectoryStore


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Images (P, K, H, W) in model space, their soft labels (P, C), and the rate to train with.

    ``tau`` is the logit adjustment of calibrated labels, else None. ``augmented`` says whether the
    images are augmented during training. ``lower_rate`` tells a person how to lower the rate.
    ``classes`` (P,) are those that a stored set has, which its soft labels need not prefer.
    """

    images: Tensor
    soft_labels: Tensor
    learning_rate: float
    tau: float | None = None
    augmented: bool = True
    lower_rate: str = "lower evaluate.lr"
    classes: Tensor | None = None

    @property
    def hard(self) -> bool:
        """Whether every image has one class."""
        return bool((self.soft_labels.amax(1) == 1).all())

    def to(self, device: torch.device) -> "TrainingSet":
        return replace(self, images=self.images.to(device), soft_labels=self.soft_labels.to(device))


@dataclass(frozen=True)
class SetKind:
    """One name of ``evaluate.sets``.

    ``title`` names it in tables, ``kind`` its images in a sentence. ``make`` takes config, data and
    the number of the network to train. Without ``make`` the set is all training images, which
    :mod:`ltdd_ray.evaluate.full_data` trains on.
    """

    title: str
    kind: str
    make: Callable[[RunConfig, PreparedData, int], TrainingSet] | None = None


def training_set(config: RunConfig, data: PreparedData, name: str, network: int) -> TrainingSet:
    """The set ``name`` for network number ``network``; ``name`` is not one of :data:`FULL_DATA`."""
    make = SETS[name].make
    assert make is not None, name
    return make(config, data, network)


def epochs_on(config: RunConfig, name: str) -> int:
    """The epochs of a network on the set ``name``."""
    return full_data_epochs(config, name) if name in FULL_DATA else config.evaluate.epochs


def random_selection(
    train: LongTailedDataset, budget: Sequence[int], seed: int, network: int
) -> list[int]:
    """``budget`` (C,) random image indices per class; a class with fewer images repeats them."""
    chosen: list[int] = []
    for k, wanted in enumerate(budget):
        members = torch.nonzero(torch.tensor(train.labels == k))[:, 0]
        order = members[
            torch.randperm(len(members), generator=generator(seed, "random-selection", network, k))
        ]
        chosen += repeated(order, wanted).tolist()
    return chosen


def _random(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    """Drawn anew for every network."""
    budget = picture_budget(config.distill, data.train.class_counts.tolist())
    index = random_selection(data.train, budget, config.seed, network)
    return _real_images(config, data, index)


def _k_center(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    return _by_features(k_center, config, data)


def _graph_cut(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    return _by_features(graph_cut, config, data)


def _by_features(
    choose: Callable[[Tensor, int], list[int]], config: RunConfig, data: PreparedData
) -> TrainingSet:
    """What ``choose`` selects of each class in the features of an expert."""
    images, labels = model_space(data.train, data.normalisation, default_device())
    features = expert_features(config, data.train, images)
    budget = picture_budget(config.distill, data.train.class_counts.tolist())
    return _real_images(config, data, select_by_class(choose, features, labels, budget))


def _real_images(config: RunConfig, data: PreparedData, index: list[int]) -> TrainingSet:
    """The training images at ``index`` (P,) with hard labels.

    They are shrunk and enlarged like the pictures of the distilled set, so both have equal bytes.
    """
    images = data.normalisation.apply(torch.tensor(data.train.images[index]))
    labels = torch.tensor(data.train.labels[index], dtype=torch.int64)
    return TrainingSet(
        as_pictures(images, config.distill.pictures_per_side),
        one_hot(labels, data.train.num_classes).float(),
        config.evaluate.lr,
    )


def _random_soft(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    return _labelled_by_experts(config, data, _random(config, data, network))


def _k_center_soft(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    return _labelled_by_experts(config, data, _k_center(config, data, network))


def _labelled_by_experts(config: RunConfig, data: PreparedData, given: TrainingSet) -> TrainingSet:
    """``given`` with the soft labels from which a distillation of its pictures would start.

    Raises ``UserError`` where the trajectory store lacks the experts.
    """
    device = default_device()
    flat = expert_network(config, data.train, 0)
    flat.model.to(device)
    store = TrajectoryStore.open(config.store_uri, expect=expectation(config, data.train))
    logits = expert_logits(config, flat, store, given.images.to(device), as_they_are=True)
    label_logits = expert_label_logits(config, given.soft_labels.argmax(-1).to(device), logits)
    return replace(given, soft_labels=label_logits.softmax(-1).cpu())


def _distilled(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    return _stored(config, "distilled")


def _initial(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    return _stored(config, "initial")


def _hard(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    """Each picture with the class of its largest label."""
    given = _stored(config, "distilled")
    return replace(
        given, soft_labels=one_hot(given.soft_labels.argmax(-1), data.train.num_classes).float()
    )


def _calibrated(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    stored = DistilledSet.load(config.folder / "distilled")
    tau, soft_labels = calibrate(stored.soft_labels, stored.classes, torch.tensor(data.prior))
    return replace(_of_stored(config, stored), soft_labels=soft_labels, tau=tau)


def _8bit(config: RunConfig, data: PreparedData, network: int) -> TrainingSet:
    return _of_stored(config, DistilledSet.load(config.folder / "distilled").in_8_bits())


def _stored(config: RunConfig, name: str) -> TrainingSet:
    return _of_stored(config, DistilledSet.load(config.folder / "distilled", name))


def _of_stored(config: RunConfig, stored: DistilledSet) -> TrainingSet:
    """The other engines learn no rate, and store ``evaluate.lr``."""
    learned = config.distill.engine == "matching"
    key = "distill.syn_lr or distill.lr_syn_lr" if learned else "evaluate.lr"
    return TrainingSet(
        stored.pictures,
        stored.soft_labels,
        stored.learning_rate,
        lower_rate=f"the distilled set holds this rate: lower {key} and distil again",
        classes=stored.classes,
    )


def _unaugmented(
    make: Callable[[RunConfig, PreparedData, int], TrainingSet],
) -> Callable[[RunConfig, PreparedData, int], TrainingSet]:
    return lambda config, data, network: replace(make(config, data, network), augmented=False)


SETS = {
    "distilled": SetKind("{method}", "distilled", _distilled),
    "distilled_hard": SetKind("{method}, hard labels", "distilled", _hard),
    "distilled_unaugmented": SetKind(
        "{method}, without augmentation", "distilled", _unaugmented(_distilled)
    ),
    "distilled_calibrated": SetKind("{method}, calibrated", "distilled", _calibrated),
    "distilled_8bit": SetKind("{method}, 8-bit images", "8-bit", _8bit),
    "initial": SetKind("Before distillation", "initial", _initial),
    "random": SetKind("Random selection", "randomly selected", _random),
    "random_unaugmented": SetKind(
        "Random selection, without augmentation", "randomly selected", _unaugmented(_random)
    ),
    "random_soft": SetKind("Random selection, soft labels", "randomly selected", _random_soft),
    "random_soft_unaugmented": SetKind(
        "Random selection, soft labels, without augmentation",
        "randomly selected",
        _unaugmented(_random_soft),
    ),
    "k_center": SetKind("K-center selection", "k-center", _k_center),
    "k_center_soft": SetKind("K-center selection, soft labels", "k-center", _k_center_soft),
    "graph_cut": SetKind("Graph-cut selection", "graph-cut", _graph_cut),
    "full_ce": SetKind("All images, cross-entropy", "long-tailed"),
    "full_balanced_softmax": SetKind("All images, balanced softmax", "long-tailed"),
    "full_decoupled": SetKind("All images, classifier re-trained", "long-tailed"),
}
