"""Class counts of a collection in which only some images are labelled.

Known labels are counted. The classes of the other images are estimated from the predictions of a
small classifier, trained on the pixels of the labelled images. N images, C classes, D pixels.

scikit-learn is imported where it is used: it takes each process two seconds, and few runs need it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import derive_seed, generator
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.mapped import MappedImages
from ltdd_ray.data.prior import black_box_shift, expectation_maximisation

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

ESTIMATES = ("proportional", "black_box", "maximum_likelihood")
COMPONENTS = 64
FOLDS = 5
_BATCH = 4096


@dataclass(frozen=True, eq=False)
class CountEstimate:
    """Three estimates of the number of images of each class (C,), labelled or not.

    Attributes:
        proportional: the counts of the labelled images, scaled up; ignores the unlabelled images.
        black_box: labelled counts plus black-box shift estimation for the unlabelled images.
        maximum_likelihood: expectation maximisation over all images. Runs use this estimate.
        true: the true counts, or None if they are unknown.
    """

    proportional: np.ndarray
    black_box: np.ndarray
    maximum_likelihood: np.ndarray
    true: np.ndarray | None

    @property
    def prior(self) -> np.ndarray:
        """float64 (C,); positive, because every class has a labelled image."""
        return self.maximum_likelihood / self.maximum_likelihood.sum()

    def errors(self) -> dict[str, float]:
        """Error of each estimate: the share of images, 0..1, counted in a wrong class.

        This is the total variation distance from the true counts. Empty if those are unknown.
        """
        if self.true is None:
            return {}
        return {
            name: float(np.abs(getattr(self, name) - self.true).sum() / (2 * self.true.sum()))
            for name in ESTIMATES
        }

    def to_json(self) -> dict[str, Any]:
        errors = self.errors()
        found = {
            name: {"counts": getattr(self, name).tolist(), "error": errors.get(name)}
            for name in ESTIMATES
        }
        return {**found, "true": None if self.true is None else self.true.tolist()}


def estimate_counts(
    labelled: LongTailedDataset,
    unlabelled: np.ndarray | MappedImages,
    seed: int,
    true: np.ndarray | None = None,
) -> CountEstimate:
    """Estimate the class counts of all images.

    Args:
        unlabelled: uint8 (M, K, H, W).
        true: int (C,), the true counts if they are known; they are passed on, not used.

    Raises ``UserError`` if too few labels are known to hold some out.
    """
    labels, num_classes, counts = labelled.labels, labelled.num_classes, labelled.class_counts
    images = len(labelled) + len(unlabelled)
    pixels = _pixel_vectors(labelled.images, slice(None))
    held_out = _held_out_predictions(pixels, labels, num_classes, seed)
    joint = np.zeros((num_classes, num_classes))
    np.add.at(joint, (held_out, labels), 1 / len(labels))

    model = _fit_classifier(pixels, labels, seed)
    probabilities = np.concatenate(
        [
            model.predict_proba(_pixel_vectors(unlabelled, slice(at, at + _BATCH)))
            for at in range(0, len(unlabelled), _BATCH)
        ]
    )
    predicted = np.bincount(probabilities.argmax(1), minlength=num_classes) / len(unlabelled)
    return CountEstimate(
        proportional=counts * (images / len(labelled)),
        black_box=counts + len(unlabelled) * black_box_shift(joint, predicted),
        maximum_likelihood=images
        * expectation_maximisation(probabilities, counts / len(labelled), counts),
        true=true,
    )


def _held_out_predictions(
    pixels: np.ndarray, labels: np.ndarray, num_classes: int, seed: int
) -> np.ndarray:
    """Cross-validated predictions (N,) for the labelled images; folds are stratified by class."""
    fold = np.empty(len(labels), dtype=np.int64)
    for k in range(num_classes):
        members = np.flatnonzero(labels == k)
        order = torch.randperm(len(members), generator=generator(seed, "estimate folds", k)).numpy()
        fold[members[order]] = (np.arange(len(members)) + k) % FOLDS
    predicted = np.empty(len(labels), dtype=np.int64)
    for held in range(FOLDS):
        here = fold == held
        if here.any():
            predicted[here] = _fit_classifier(pixels[~here], labels[~here], seed).predict(
                pixels[here]
            )
    return predicted


def _fit_classifier(pixels: np.ndarray, labels: np.ndarray, seed: int) -> "Pipeline":
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if len(np.unique(labels)) < 2:
        raise UserError(
            "data.class_counts estimate: too few labels are known to hold some out; "
            "label more images"
        )
    components = min(COMPONENTS, *pixels.shape)
    # Not whitened: with few labels, whitening would weigh noise as much as the first component.
    reduce = PCA(
        components, svd_solver="randomized", random_state=derive_seed(seed, "estimate") % 2**32
    )
    return make_pipeline(reduce, LogisticRegression(max_iter=1000)).fit(pixels, labels)


def _pixel_vectors(images: np.ndarray | MappedImages, part: slice) -> np.ndarray:
    """float32 (B, D), 0..1."""
    pixels = images[part]
    return pixels.reshape(len(pixels), -1).astype(np.float32) / 255
