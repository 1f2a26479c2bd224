"""What a trial is worth: balanced accuracy on held-out training images, estimated for classes with few of them or none.

C classes, n_k training images and m_k held-out images of class k, N of all classes, R networks. Never sees a test image.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ltdd_ray.common.device import default_device
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.common.seeding import derive_seed
from ltdd_ray.config import RunConfig
from ltdd_ray.data.load import load_data
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.data.prepare import PreparedData, model_space
from ltdd_ray.data.sources.imagenet import ShardWriter, write_in_process
from ltdd_ray.data.split import hold_out_where_possible
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.evaluate.sets import TrainingSet
from ltdd_ray.evaluate.train import train_network
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.networks import build_network

SLOPE_SHRINKAGE = 2.0


@dataclass(frozen=True)
class Worth:
    """Balanced accuracy 0..1, and its standard error over the choice of the held-out images."""

    accuracy: float
    standard_error: float


def search_data(config: RunConfig, write_shards: ShardWriter = write_in_process) -> PreparedData:
    """The run's training images cut in two: those that experts and trials learn from, and those that judge the trials.

    A class of fewer than 1 / ``search.validation_fraction`` images stays whole. The test images are not part of it.
    """
    train = load_data(config.data, config.seed, write_shards).train
    kept, held = hold_out_where_possible(
        train, config.search.validation_fraction, config.seed, "search split"
    )
    return PreparedData(kept, held, Normalisation.fit(kept.images, config.data.normalisation))


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the true class's logit lies above the largest other (N,), given logits (N, C) and labels (N,)."""
    true = labels[:, None]
    return (logits.gather(1, true) - logits.scatter(1, true, -torch.inf).amax(1, keepdim=True))[
        :, 0
    ]


def estimated_accuracy(
    found: np.ndarray, labels: np.ndarray, counts: np.ndarray, trend_weight: float
) -> np.ndarray:
    """Estimated accuracy (C,) of every class, whatever the number of images it was measured on.

    A trial that leans to the head is good there and bad in the tail, and margins say so before accuracies do: those of two
    classes may both be 1 while one's margins are far smaller. So the measured classes give a trend of the mean margin,
    t_k = y + b (log n_k - x), with x, y the means of log n_k and of the mean margins g_k under the weights v_k = m_k / (m_k + w),
    and s, the margins' deviation within classes, makes a margin an accuracy:

        b = sum_k v_k (log n_k - x)(g_k - y) / (sum_k v_k (log n_k - x)^2 + SLOPE_SHRINKAGE)
        estimate_k = (m_k accuracy_k + w Phi((m_k g_k + w t_k) / (m_k + w) / s)) / (m_k + w)

    A large class is its measurement, a class without held-out images its place on the trend. That is an extrapolation from
    larger classes and no measurement: it ranks trials, and says little about one class.

    Args:
        found: the margins of R networks (R, N). labels: class of each held-out image (N,). counts: n_k, int (C,).
        trend_weight: w > 0, in held-out images.
    """
    held, right, mean, deviation = _per_class(found, labels, len(counts))
    x, weight = np.log(counts), held / (held + trend_weight)
    middle, height = np.average(x, weights=weight), np.average(mean, weights=weight)
    slope = np.sum(weight * (x - middle) * (mean - height)) / (
        np.sum(weight * (x - middle) ** 2) + SLOPE_SHRINKAGE
    )
    trend = height + slope * (x - middle)
    margin = (held * mean + trend_weight * trend) / (held + trend_weight)
    likely = torch.special.ndtr(torch.from_numpy(margin / deviation)).numpy()
    return (held * right + trend_weight * likely) / (held + trend_weight)


def standard_error(found: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Of the mean of the classes' accuracies, each of them a share p_k = (m_k accuracy_k + 1) / (m_k + 2) of m_k images."""
    held, right, *_ = _per_class(found, labels, classes)
    share = (held * right + 1) / (held + 2)
    return float(np.sqrt(np.sum(share * (1 - share) / np.maximum(held, 1))) / classes)


def _per_class(
    found: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Held-out images (C,), share predicted right (C,) and mean margin (C,), both 0 without images; deviation within classes."""
    held = np.bincount(labels, minlength=classes)
    each = np.maximum(held, 1)
    right, mean = (
        np.bincount(labels, values.mean(0), classes) / each for values in (found > 0, found)
    )
    freedom = max(np.sum(np.maximum(held - 1, 0)), 1)
    deviation = np.sqrt(np.mean((found - mean[labels]) ** 2, 0).sum() / freedom)
    return held, right, mean, max(float(deviation), 1e-12)


class Judge:
    """Holds the held-out images on this process's device and says what a distilled set is worth."""

    def __init__(self, config: RunConfig, data: PreparedData) -> None:
        self._config, self._data, self._device = config, data, default_device()
        self._images, self._labels = model_space(data.evaluation, data.normalisation, self._device)

    def worth(self, found: DistilledSet) -> Worth:
        """Mean over classes of :func:`estimated_accuracy`, measured with ``search.networks`` fresh networks.

        Every trial meets the same networks and the same batches. A set that no network can be trained on is worth 0.
        """
        config, train = self._config, self._data.train
        given = TrainingSet(found.pictures, found.soft_labels, found.learning_rate).to(self._device)
        settings = config.evaluate.model_copy(update={"epochs": config.search.epochs})
        measured = []
        for network in range(config.search.networks):
            seed = derive_seed(config.seed, "search-network", network)
            model = build_network(config.model, train.image_shape, train.num_classes, seed).to(
                self._device
            )
            try:
                train_network(
                    model,
                    given,
                    settings,
                    Augmentation(config.augmentation),
                    derive_seed(seed, "training"),
                )
            except NonFiniteLossError:
                return Worth(0.0, 0.0)
            model.eval()
            with torch.no_grad():
                logits = torch.cat([model(part) for part in self._images.split(512)])
            measured.append(margins(logits.double(), self._labels))
        all_margins, labels = torch.stack(measured).cpu().numpy(), self._labels.cpu().numpy()
        if not np.isfinite(all_margins).all():
            return Worth(0.0, 0.0)
        accuracy = estimated_accuracy(
            all_margins, labels, train.class_counts, config.search.trend_weight
        ).mean()
        return Worth(float(accuracy), standard_error(all_margins, labels, train.num_classes))
