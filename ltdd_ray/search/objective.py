"""What a trial is worth: balanced accuracy on held-out training images, corrected for classes with few of them or none.

C classes, n_k training images and m_k held-out images of class k, M synthetic images. Never sees a test image.
"""

import numpy as np
import torch

from ltdd_ray.augment import Augmentation
from ltdd_ray.config import RunConfig
from ltdd_ray.data.load import load_data
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.data.prepare import PreparedData, model_space
from ltdd_ray.data.split import hold_out_where_possible
from ltdd_ray.device import default_device
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.errors import NonFiniteLossError
from ltdd_ray.evaluate.sets import TrainingSet
from ltdd_ray.evaluate.train import measure, train_network
from ltdd_ray.nn.networks import build_network
from ltdd_ray.seeding import derive_seed

SLOPE_SHRINKAGE = 2.0


def search_data(config: RunConfig) -> PreparedData:
    """The run's training images cut in two: those that experts and trials learn from, and those that judge the trials.

    A class of fewer than 1 / ``search.validation_fraction`` images stays whole. The test images are not part of it.
    """
    train = load_data(config.data, config.seed).train
    kept, held = hold_out_where_possible(train, config.search.validation_fraction, config.seed, "search split")
    return PreparedData(kept, held, Normalisation.fit(kept.images, config.data.normalisation))


def corrected_accuracy(accuracy: np.ndarray, held: np.ndarray, counts: np.ndarray, trend_weight: float) -> np.ndarray:
    """Estimated accuracy (C,) of every class, whatever the number of images it was measured on.

    Accuracy follows the class prior: a trial that leans to the head is good there and bad in the tail. So the measured classes
    give a trend t_k = y + b (log n_k - x) within 0..1, with x, y the means of log n_k and accuracy_k under the weights
    v_k = m_k / (m_k + w), and each class is its own measurement shrunk to the trend as if w images had been seen there:

        b = sum_k v_k (log n_k - x)(accuracy_k - y) / (sum_k v_k (log n_k - x)^2 + SLOPE_SHRINKAGE)
        estimate_k = (m_k accuracy_k + w t_k) / (m_k + w)

    A large class is its measurement, a class without held-out images its place on the trend. That is an extrapolation from
    larger classes and no measurement: it ranks trials, and says little about one class. Without the shrinkage of b the noise of
    the smaller classes, carried far, costs more than the trend gives (simulated in the tests).

    Args:
        accuracy: share of right predictions (C,), anything where ``held`` is 0.
        held: m_k, int (C,), at least one above 0. counts: n_k, int (C,). trend_weight: w > 0.
    """
    seen = held > 0
    x, y = np.log(counts), np.where(seen, accuracy, 0.0)
    weight = held / (held + trend_weight)
    middle, height = np.average(x, weights=weight), np.average(y, weights=weight)
    slope = np.sum(weight * (x - middle) * (y - height)) / (np.sum(weight * (x - middle) ** 2) + SLOPE_SHRINKAGE)
    trend = np.clip(height + slope * (x - middle), 0.0, 1.0)
    return (held * y + trend_weight * trend) / (held + trend_weight)


class Judge:
    """Holds the held-out images on this process's device and says what a distilled set is worth."""

    def __init__(self, config: RunConfig, data: PreparedData) -> None:
        self._config, self._data, self._device = config, data, default_device()
        self._images, self._labels = model_space(data.evaluation, data.normalisation, self._device)

    def objective(self, found: DistilledSet) -> float:
        """Mean over classes of :func:`corrected_accuracy`, each class measured with ``search.networks`` fresh networks.

        Every trial meets the same networks and the same batches. A set that no network can be trained on is worth 0.
        """
        config, train = self._config, self._data.train
        given = TrainingSet(found.images, found.soft_labels, found.learning_rate).to(self._device)
        settings = config.evaluate.model_copy(update={"epochs": config.search.epochs})
        measured = []
        for network in range(config.search.networks):
            seed = derive_seed(config.seed, "search-network", network)
            model = build_network(config.model, train.image_shape, train.num_classes, seed).to(self._device)
            try:
                train_network(model, given, settings, Augmentation(config.augmentation), derive_seed(seed, "training"))
            except NonFiniteLossError:
                return 0.0
            measured.append(measure(model, self._images, self._labels).per_class)
        held = self._data.evaluation.class_counts
        accuracy = torch.tensor(measured, dtype=torch.float64).mean(0).numpy()
        return float(corrected_accuracy(accuracy, held, train.class_counts, config.search.trend_weight).mean())
