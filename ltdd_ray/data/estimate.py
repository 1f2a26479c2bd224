"""Class counts of a collection of which only some images are labelled.

Known labels are counted; the others are estimated from what a small classifier, trained on the labelled images' pixels, says about
the unlabelled ones. N images, C classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prior import black_box_shift, expectation_maximisation
from ltdd_ray.errors import UserError
from ltdd_ray.seeding import derive_seed, generator

ESTIMATES = ("proportional", "black_box", "maximum_likelihood")
COMPONENTS = 64
FOLDS = 5
_BATCH = 4096


@dataclass(frozen=True, eq=False)
class CountEstimate:
    """Images of each class (C,) among all, labelled or not, estimated in three ways; ``true`` counts the hidden labels too.

    Attributes:
        proportional: the labelled images' counts scaled up, which the unlabelled images have no part in.
        black_box: labelled counts, and black-box shift estimation for the unlabelled images.
        maximum_likelihood: expectation maximisation over labelled and unlabelled images; what a run uses.
    """

    proportional: np.ndarray
    black_box: np.ndarray
    maximum_likelihood: np.ndarray
    true: np.ndarray

    @property
    def prior(self) -> np.ndarray:
        """float64 (C,), positive, as every class has a labelled image."""
        return self.maximum_likelihood / self.maximum_likelihood.sum()

    def error(self, counts: np.ndarray) -> float:
        """The share of images, 0..1, that ``counts`` (C,) puts into a wrong class: total variation from the truth."""
        return float(np.abs(counts - self.true).sum() / (2 * self.true.sum()))

    def to_json(self) -> dict[str, Any]:
        estimates = {name: getattr(self, name) for name in ESTIMATES}
        found = {name: {"counts": counts.tolist(), "error": self.error(counts)} for name, counts in estimates.items()}
        return {**found, "true": self.true.tolist()}


def estimate_counts(dataset: LongTailedDataset, known: np.ndarray, seed: int) -> CountEstimate:
    """Estimate where bool (N,) ``known`` says whose labels may be looked at; the others' go into ``true`` alone.

    Raises ``UserError`` where too few labels are known to hold some out.
    """
    labelled, unlabelled = np.flatnonzero(known), np.flatnonzero(~known)
    labels, num_classes = dataset.labels[labelled], dataset.num_classes
    counts = np.bincount(labels, minlength=num_classes)
    pixels = _pixels(dataset, labelled)
    held_out = _held_out_predictions(pixels, labels, num_classes, seed)
    joint = np.zeros((num_classes, num_classes))
    np.add.at(joint, (held_out, labels), 1 / len(labels))

    model = _fit(pixels, labels, seed)
    probabilities = np.concatenate(
        [model.predict_proba(_pixels(dataset, unlabelled[at : at + _BATCH])) for at in range(0, len(unlabelled), _BATCH)]
    )
    predicted = np.bincount(probabilities.argmax(1), minlength=num_classes) / len(unlabelled)
    return CountEstimate(
        proportional=counts * (len(dataset) / len(labelled)),
        black_box=counts + len(unlabelled) * black_box_shift(joint, predicted),
        maximum_likelihood=len(dataset) * expectation_maximisation(probabilities, counts / len(labelled), counts),
        true=dataset.class_counts,
    )


def _held_out_predictions(pixels: np.ndarray, labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """The class (N,) predicted for each labelled image by a model that has not seen it; folds share every class out evenly."""
    fold = np.empty(len(labels), dtype=np.int64)
    for k in range(num_classes):
        members = np.flatnonzero(labels == k)
        order = torch.randperm(len(members), generator=generator(seed, "estimate folds", k)).numpy()
        fold[members[order]] = (np.arange(len(members)) + k) % FOLDS
    predicted = np.empty(len(labels), dtype=np.int64)
    for held in range(FOLDS):
        here = fold == held
        if here.any():
            predicted[here] = _fit(pixels[~here], labels[~here], seed).predict(pixels[here])
    return predicted


def _fit(pixels: np.ndarray, labels: np.ndarray, seed: int) -> Pipeline:
    if len(np.unique(labels)) < 2:
        raise UserError("data.class_counts estimate: too few labels are known to hold some out; raise data.labelled_fraction")
    components = min(COMPONENTS, *pixels.shape)
    # Not whitened: with few labels that lets the least of the components count as much as the first.
    reduce = PCA(components, svd_solver="randomized", random_state=derive_seed(seed, "estimate") % 2**32)
    return make_pipeline(reduce, LogisticRegression(max_iter=1000)).fit(pixels, labels)


def _pixels(dataset: LongTailedDataset, indices: np.ndarray) -> np.ndarray:
    """float32 (B, D), 0..1."""
    return dataset.images[indices].reshape(len(indices), -1).astype(np.float32) / 255
