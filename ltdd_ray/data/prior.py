"""Class priors of images without labels, from what a classifier says about them.

Both estimates assume that classes differ in how frequent they are and in nothing else (label shift). C classes, M unlabelled
images, s the prior of the images the classifier was trained on.
"""

import numpy as np
from scipy.optimize import nnls

EM_STEPS = 1000
EM_TOLERANCE = 1e-9


def expectation_maximisation(
    probabilities: np.ndarray, source_prior: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The prior (C,) of greatest likelihood, by the EM of Saerens, Latinne and Decaestecker (Neural Computation 2002).

    Args:
        probabilities: (M, C), predicted for the unlabelled images; the better calibrated, the better.
        source_prior: s (C,), positive.
        counts: (C,) labelled images drawn from the same distribution, which count as they are; zeros where there are none.
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
    """Prior (C,) that explains how often each class is predicted, by least squares under w >= 0.

    Lipton, Wang and Smola, ICML 2018 (arXiv 1802.03916). Asks for no calibration, only for a confusion matrix of full rank.

    Args:
        joint: (C, C), the share of held-out labelled images predicted as i (row) that are of class j (column); sums to 1.
        predicted: (C,), the share of unlabelled images predicted as i.
    """
    weights, _ = nnls(joint, predicted)
    prior = weights * joint.sum(0)
    return prior / prior.sum()
