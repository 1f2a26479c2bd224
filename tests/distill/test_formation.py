import torch

from ltdd_ray.distill.formation import as_pictures, decode, encode


def test_pictures_lie_row_by_row_and_come_back_in_order() -> None:
    """Two mosaics of 2 x 2 flat pictures: cells do not mix, so decoding is exact."""
    values = torch.arange(8.0).repeat_interleave(3).view(8, 3, 1, 1) + torch.tensor(
        [0, 0.1, 0.2]
    ).view(1, 3, 1, 1)
    pictures = values.expand(8, 3, 4, 6)
    mosaics = encode(pictures, 2)
    assert mosaics.shape == (2, 3, 4, 6)
    top, bottom = [0.0, 0, 0, 1, 1, 1], [2.0, 2, 2, 3, 3, 3]
    assert mosaics[0, 0].tolist() == [top, top, bottom, bottom]
    assert torch.equal(mosaics[1, 0], mosaics[0, 0] + 4)
    torch.testing.assert_close(decode(mosaics, 2), pictures)


def test_a_picture_shrinks_by_averaging_and_grows_bilinearly() -> None:
    picture = torch.tensor([[1.0, 3, 5, 7], [1, 3, 5, 7], [0, 0, 8, 8], [0, 0, 8, 8]])[None, None]
    mosaic = encode(picture.repeat(4, 1, 1, 1), 2)
    assert mosaic[0, 0, :2, :2].tolist() == [[2, 6], [0, 8]]
    grown = decode(mosaic, 2)
    assert grown.shape == (4, 1, 4, 4)
    assert grown[0, 0, 0].tolist() == [2, 3, 5, 6]  # a quarter and three quarters of the way
    assert grown[0, 0, :, 0].tolist() == [2, 1.5, 0.5, 0]


def test_the_gradient_of_a_picture_stays_in_its_cell() -> None:
    mosaic = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    decode(mosaic, 2)[1].sum().backward()
    assert mosaic.grad is not None and mosaic.grad[0, 0].tolist() == [
        [0, 0, 4, 4],
        [0, 0, 4, 4],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_one_picture_per_image_changes_nothing() -> None:
    images = torch.randn(3, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encode(images, 1), images) and torch.equal(decode(images, 1), images)


def test_an_image_by_itself_looks_as_it_does_out_of_a_mosaic() -> None:
    images = torch.randn(8, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(as_pictures(images, 2), decode(encode(images, 2), 2))
    assert torch.equal(as_pictures(images, 1), images)
