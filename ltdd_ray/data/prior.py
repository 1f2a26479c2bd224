"""Class priors of unlabelled images, estimated from the predictions of a classifier.

Both estimates assume label shift: only the class frequencies differ between the unlabelled images
and those the classifier was trained on. C classes, M unlabelled images, s the prior of the training
images.
"""

import numpy as np

EM_STEPS = 1000
EM_TOLERANCE = 1e-9


def expectation_maximisation(
    probabilities: np.ndarray, source_prior: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The maximum-likelihood prior (C,), by EM.

    Saerens, Latinne and Decaestecker, Neural Computation 2002.

    Args:
        probabilities: (M, C), predicted for the unlabelled images; should be calibrated.
        source_prior: s (C,), positive.
        counts: (C,), labelled images of the same distribution, added to the expected counts.
    """
    prior, total = source_prior, len(probabilities) + counts.sum()
    for _ in range(EM_STEPS):
        adjusted = probabilities * (prior / source_prior)
        updated = (counts + (adjusted / adjusted.sum(1, keepdims=True)).sum(0)) / total
        if np.abs(updated - prior).max() < EM_TOLERANCE:
            return updated
        prior = updated
    return prior


def black_box_shift(joint: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The prior (C,) that explains how often each class is predicted, by nonnegative least squares.

    Lipton, Wang and Smola, ICML 2018 (arXiv 1802.03916). Needs no calibration, only a confusion
    matrix of full rank.

    Args:
        joint: (C, C), share of the held-out labelled images that are of class j (column) and
            predicted as i (row); sums to 1.
        predicted: (C,), share of the unlabelled images predicted as i.
    """
    from scipy.optimize import nnls  # here, since it takes a second and few runs need it

    weights, _ = nnls(joint, predicted)
    prior = weights * joint.sum(0)
    return prior / prior.sum()
