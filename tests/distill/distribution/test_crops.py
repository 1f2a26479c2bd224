"""Crops of images whose pixels tell where they were, and rounds with scores given by hand."""

import pytest
import torch

from ltdd_ray.distill.distribution.crops import (
    SMALLEST_AREA,
    choose_in_rounds,
    cut,
    draw_crops,
)

SCORES = torch.tensor([[0.9, 0.8], [0.1, 0.7], [0.3, 0.2]])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (2, [(0, 0), (1, 1)]),  # not (0, 1), though it scores higher than (1, 1)
        (3, [(0, 0), (1, 1), (2, 0)]),
        (5, [(0, 0), (1, 1), (2, 0), (0, 1), (2, 1)]),
        (6, [(0, 0), (1, 1), (2, 0), (0, 1), (2, 1), (1, 0)]),
    ],
)
def test_a_round_takes_at_most_one_crop_of_an_image(
    wanted: int, expected: list[tuple[int, int]]
) -> None:
    image, crop = choose_in_rounds(SCORES, wanted)
    assert list(zip(image.tolist(), crop.tolist())) == expected


def test_equal_scores_are_taken_in_order() -> None:
    image, crop = choose_in_rounds(torch.zeros(3, 2), 4)
    assert list(zip(image.tolist(), crop.tolist())) == [(0, 0), (1, 0), (2, 0), (0, 1)]


def test_crops_lie_inside_the_image_and_cover_at_least_their_share_of_it() -> None:
    crops = draw_crops(50, 40, torch.Generator().manual_seed(0))
    side, centre = crops[..., :1], crops[..., 1:]
    assert crops.shape == (50, 40, 3)
    assert (centre.abs() + side <= 1 + 1e-6).all()
    area = side.square()
    assert SMALLEST_AREA <= float(area.min()) < 0.51 and 0.99 < float(area.max()) <= 1
    assert float((centre / (1 - side)).min()) < -0.99 and float((centre / (1 - side)).max()) > 0.99


def test_a_crop_is_enlarged_to_the_size_of_the_image() -> None:
    """On a slope an enlarged crop is a gentler slope, at the place that was cut out."""
    column = (torch.arange(8.0) * 2 + 1) / 8 - 1  # the middle of each pixel, -1..1 over the image
    image = torch.stack([column.expand(8, 8), column[:, None].expand(8, 8)])[None]
    whole, corner = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.25, -0.5]]).split(1)
    torch.testing.assert_close(cut(image, whole), image)
    found = cut(image, corner)[0]
    # Inside, where no neighbour lies outside of the image.
    torch.testing.assert_close(found[0, :, :], (0.25 + 0.5 * column).expand(8, 8))
    torch.testing.assert_close(found[1, 1:], (-0.5 + 0.5 * column)[1:, None].expand(7, 8))
