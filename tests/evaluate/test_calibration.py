"""Labels with a bias put in by hand, so that the tau that takes it out is known."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ltdd_ray.evaluate.calibration import adjust, calibrate, confidence_spread

CLASSES = torch.arange(10).repeat_interleave(4)
PRIOR = torch.tensor([0.6**k for k in range(10)], dtype=torch.float64)
PRIOR /= PRIOR.sum()


def even_labels() -> Tensor:
    """(40, 10): every class has the same four confidences in itself."""
    confidence = torch.tensor([0.9, 0.7, 0.5, 0.3]).repeat(10)[:, None]
    own = one_hot(CLASSES, 10).float()
    return confidence * own + (1 - confidence) / 9 * (1 - own)


@pytest.mark.parametrize("planted", [0.37, 1.0, -0.8])
def test_a_planted_bias_is_found_and_taken_out(planted: float) -> None:
    biased = adjust(even_labels(), PRIOR, -planted)
    assert confidence_spread(biased, CLASSES) > 0.1
    tau, labels = calibrate(biased, CLASSES, PRIOR)
    assert tau == pytest.approx(planted, abs=4e-4)
    torch.testing.assert_close(labels, even_labels(), atol=1e-3, rtol=0)
    assert labels.dtype == biased.dtype


def test_what_is_even_already_stays(planted: float = 1.0) -> None:
    assert calibrate(even_labels(), CLASSES, PRIOR).tau == 0
    biased = adjust(even_labels(), PRIOR, -planted)
    tau, labels = calibrate(biased, CLASSES, torch.full((10,), 0.1))
    assert tau == 0
    torch.testing.assert_close(labels, biased)


def test_labels_of_one_class_have_nothing_to_calibrate() -> None:
    tau, labels = calibrate(one_hot(CLASSES, 10).float(), CLASSES, PRIOR)
    assert tau == 0 and torch.equal(labels, one_hot(CLASSES, 10).float())


def test_adjustment_is_that_of_the_logits() -> None:
    logits = torch.randn(40, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (logits - 0.7 * PRIOR.log()).softmax(-1)
    torch.testing.assert_close(adjust(logits.softmax(-1), PRIOR, 0.7), expected)


def test_a_class_without_images_has_no_say() -> None:
    kept = CLASSES != 4
    biased = adjust(even_labels(), PRIOR, -0.5)[kept]
    assert calibrate(biased, CLASSES[kept], PRIOR).tau == pytest.approx(0.5, abs=4e-4)
