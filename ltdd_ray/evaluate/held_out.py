"""Scoring a distilled set on held-out training images.

The score is an estimate of balanced accuracy. It covers classes with few held-out images or none.
The test images are never used.

C classes, R networks, N held-out images; n_k training images and m_k held-out images of class k.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltdd_ray.common.device import default_device
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.common.seeding import derive_seed
from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LabelledImages
from ltdd_ray.data.prepare import PreparedData, model_space
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checks import Checks
from ltdd_ray.evaluate.sets import TrainingSet
from ltdd_ray.evaluate.train import train_network
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.networks import build_network

SLOPE_SHRINKAGE = 2.0
TREND_WEIGHT = 1.0  # of checks, in held-out images; the default of a search


@dataclass(frozen=True)
class Score:
    """Balanced accuracy 0..1, and its standard error over the choice of the held-out images."""

    accuracy: float
    standard_error: float


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """True-class logit minus the largest other logit (N,), from logits (N, C) and labels (N,)."""
    true = labels[:, None]
    largest_other = logits.scatter(1, true, -torch.inf).amax(1, keepdim=True)
    return (logits.gather(1, true) - largest_other)[:, 0]


def estimated_accuracy(
    found: np.ndarray, labels: np.ndarray, counts: np.ndarray, trend_weight: float
) -> np.ndarray:
    """Estimated accuracy (C,) of every class, for any number of held-out images per class.

    A set that favours the head is accurate there and inaccurate in the tail. Margins show this
    earlier than accuracies: two classes can both have accuracy 1 while the margins of one are much
    smaller. So the measured classes give a linear trend of the mean margin over log n_k,

        t_k = y + b (log n_k - x)

    where x and y are the means of log n_k and of the mean margins g_k under the weights
    v_k = m_k / (m_k + w). With s the standard deviation of the margins within classes:

        b = sum_k v_k (log n_k - x)(g_k - y) / (sum_k v_k (log n_k - x)^2 + SLOPE_SHRINKAGE)
        estimate_k = (m_k accuracy_k + w Phi((m_k g_k + w t_k) / (m_k + w) / s)) / (m_k + w)

    For a class with many held-out images the estimate is the measured accuracy. For a class without
    any it is the trend alone, which extrapolates from larger classes. This is good enough to rank
    sets and says little about a single class.

    Args:
        found: margins of the R networks, (R, N).
        labels: class of each held-out image, (N,).
        counts: n_k, int (C,).
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
    """Standard error of the mean class accuracy over the choice of the held-out images.

    Each accuracy is smoothed to (m_k accuracy_k + 1) / (m_k + 2), so that few images that are all
    right do not count as certain. ``found`` (R, N), ``labels`` (N,).
    """
    held, right, *_ = _per_class(found, labels, classes)
    share = (held * right + 1) / (held + 2)
    return float(np.sqrt(np.sum(share * (1 - share) / np.maximum(held, 1))) / classes)


def score_of(
    found: np.ndarray, labels: np.ndarray, counts: np.ndarray, trend_weight: float
) -> Score:
    """The score of networks with margins ``found`` (R, N); 0 where one of them diverged.

    The other arguments are those of :func:`estimated_accuracy`.
    """
    if not np.isfinite(found).all():
        return Score(0.0, 0.0)
    accuracy = estimated_accuracy(found, labels, counts, trend_weight).mean()
    return Score(float(accuracy), standard_error(found, labels, len(counts)))


def _per_class(
    found: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """m_k (C,), accuracy (C,), mean margin (C,), and the deviation of margins within classes.

    Accuracy and mean margin are 0 for a class without held-out images.
    """
    held = np.bincount(labels, minlength=classes)
    each = np.maximum(held, 1)
    right, mean = (
        np.bincount(labels, values.mean(0), classes) / each for values in (found > 0, found)
    )
    freedom = max(np.sum(np.maximum(held - 1, 0)), 1)
    deviation = np.sqrt(np.mean((found - mean[labels]) ** 2, 0).sum() / freedom)
    return held, right, mean, max(float(deviation), 1e-12)


class HeldOutEvaluator:
    """Scores distilled sets on held-out images, which it keeps on this process's device."""

    def __init__(
        self,
        config: RunConfig,
        data: PreparedData,
        held_out: LabelledImages,
        *,
        networks: int,
        epochs: int,
        trend_weight: float,
        purpose: str,
    ) -> None:
        """``purpose`` names the random stream of the networks."""
        self._config, self._data, self._device = config, data, default_device()
        self._images, self._labels = model_space(held_out, data.normalisation, self._device)
        self._networks, self._trend_weight, self._purpose = networks, trend_weight, purpose
        self._settings = config.evaluate.model_copy(update={"epochs": epochs})

    def margins_on(
        self, given: TrainingSet, network: int, on_epoch: Callable[[int], None] = lambda epoch: None
    ) -> np.ndarray:
        """Margins (N,) of network number ``network`` after training on ``given``.

        Its initial weights and batches are the same for every set. NaN where training diverges.
        """
        config, train, given = self._config, self._data.train, given.to(self._device)
        seed = derive_seed(config.seed, self._purpose, network)
        model = build_network(config.model, train.image_shape, train.num_classes, seed)
        model.to(self._device)
        augment = Augmentation(config.augmentation if given.augmented else "")
        draw = derive_seed(seed, "training")
        try:
            train_network(model, given, self._settings, augment, draw, on_epoch)
        except NonFiniteLossError:
            return np.full(len(self._images), np.nan)
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(part) for part in self._images.split(512)])
        return margins(logits.double(), self._labels).cpu().numpy()

    def score(self, distilled: DistilledSet) -> Score:
        """Mean of :func:`estimated_accuracy` over classes, from new networks."""
        given = TrainingSet(distilled.pictures, distilled.soft_labels, distilled.learning_rate)
        found = np.stack([self.margins_on(given, network) for network in range(self._networks)])
        labels, counts = self._labels.cpu().numpy(), self._data.train.class_counts
        return score_of(found, labels, counts, self._trend_weight)


def make_checks(
    config: RunConfig, data: PreparedData, done: int, say: Callable[[str], None]
) -> Checks | None:
    """The checks that ``distill.checks`` asks for, or None.

    ``done`` updates are finished; ``say`` gets a sentence for each check.
    """
    settings = config.distill.checks
    if settings.every is None:
        return None
    assert data.held_out is not None  # the config requires a validation_fraction
    evaluator = HeldOutEvaluator(
        config,
        data,
        data.held_out,
        networks=1,
        epochs=settings.epochs,
        trend_weight=TREND_WEIGHT,
        purpose="check-network",
    )
    return Checks(
        Path(config.folder) / "distilled",
        lambda distilled: evaluator.score(distilled).accuracy,
        engine=config.distill.engine,
        every=settings.every,
        keep=config.distill.keep,
        done=done,
        say=say,
    )
