import numpy as np
import pytest

from ltdd_ray.data.prior import black_box_shift, expectation_maximisation

SOURCE, TARGET = np.array([0.25, 0.5, 0.25]), np.array([0.7, 0.1, 0.2])
CONFUSION = np.array(
    [[0.8, 0.1, 0.2], [0.1, 0.7, 0.1], [0.1, 0.2, 0.7]]
)  # column j: how class j is predicted


def test_black_box_shift_finds_the_prior_behind_exact_shares() -> None:
    assert black_box_shift(CONFUSION * SOURCE, CONFUSION @ TARGET) == pytest.approx(TARGET)


def test_black_box_shift_never_goes_below_zero() -> None:
    found = black_box_shift(CONFUSION * SOURCE, np.array([0.9, 0.1, 0.0]))
    assert found.min() >= 0 and found.sum() == pytest.approx(1) and found.argmax() == 0


def test_expectation_maximisation_finds_the_prior_of_a_known_mixture() -> None:
    # Each image shows one of three signs, distributed as CONFUSION, so the posterior is exact.
    signs = np.repeat(np.arange(3), np.rint(10_000 * (CONFUSION @ TARGET)).astype(int))
    joint = CONFUSION * SOURCE
    posterior = joint / joint.sum(1, keepdims=True)
    assert expectation_maximisation(posterior[signs], SOURCE, np.zeros(3)) == pytest.approx(
        TARGET, abs=1e-3
    )


def test_labelled_images_are_added_to_the_expected_counts() -> None:
    assert expectation_maximisation(
        np.tile(SOURCE, (0, 1)), SOURCE, np.array([2, 1, 1])
    ) == pytest.approx([0.5, 0.25, 0.25])
    certain = np.eye(3)[[0, 0, 2]]
    assert expectation_maximisation(certain, SOURCE, np.array([1, 3, 1])) == pytest.approx(
        [3 / 8, 3 / 8, 2 / 8]
    )


def test_both_estimates_keep_an_unshifted_prior() -> None:
    signs = np.repeat(np.arange(3), np.rint(10_000 * (CONFUSION @ SOURCE)).astype(int))
    joint = CONFUSION * SOURCE
    assert expectation_maximisation(
        (joint / joint.sum(1, keepdims=True))[signs], SOURCE, np.zeros(3)
    ) == pytest.approx(SOURCE, abs=1e-3)
    assert black_box_shift(joint, CONFUSION @ SOURCE) == pytest.approx(SOURCE)
