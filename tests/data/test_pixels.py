"""Pixels enter as a viewer shows them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.scan import scan_folder
from ltdd_ray.data.sources.decode import decode_images, read_head


def encoded(image: Image.Image, kind: str, **settings) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "tiff", "webp", "jpeg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    upright = Image.fromarray(
        np.kron(np.array([[0, 80, 160], [60, 140, 240]], np.uint8), np.ones((16, 16), np.uint8))
    )
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Image.Transpose
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored.convert("RGB"), kind, exif=exif)
    found = decode_images([("x", content)], None)[0, 0]
    assert found.shape == (32, 48)
    assert np.abs(found.astype(int) - np.asarray(upright)).mean() < 3
    assert read_head("x", content)[0] == (48, 32)


def test_transparent_pixels_lie_on_the_background() -> None:
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[:, 4:, 3] = 255  # a black drawing in the alpha channel alone
    content, notes = encoded(Image.fromarray(ink), "png"), []
    found = decode_images([("x", content), ("y", content)], None, "white", notes)
    assert (found[:, :, :, :4] == 255).all() and (found[:, :, :, 4:] == 0).all()
    assert len(notes) == 1 and notes[0].startswith("2 image(s) have transparent pixels")
    found = decode_images([("x", content)], None, "#102030")
    assert found[0, :, 0, 0].tolist() == [0x10, 0x20, 0x30]
    for mode in ("LA", "P"):
        content = encoded(Image.fromarray(ink).convert(mode), "png")
        assert (decode_images([("x", content)], None)[0, :, :, :4] == 255).all()
    with pytest.raises(ValueError, match=r"'pink' is no colour; give white, black or #rrggbb"):
        DataConfig(source="digits", background="pink")


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "jpeg"), ("CMYK", "tiff"), ("P", "gif")])
def test_other_colour_spaces_become_rgb(mode: str, kind: str) -> None:
    image = Image.new("RGB", (8, 8), (200, 100, 0)).convert(mode)
    found = decode_images([("x", encoded(image, kind))], None)
    assert np.abs(found[0, :, 4, 4].astype(int) - [200, 100, 0]).max() <= 6


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_deep_grey_is_refused_by_init_too(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.new("I;16", (8, 8), 1000).save(tmp_path / name / f"{k}.{kind}")
    with pytest.raises(UserError, match=r"more than 8 bits per pixel"):
        scan_folder(tmp_path)


def test_a_healthy_image_over_the_limit_is_too_large() -> None:
    content = encoded(Image.new("1", (13500, 13500)), "png")
    for read in (lambda: decode_images([("x", content)], None), lambda: read_head("x", content)):
        with pytest.raises(UserError, match=r"x is too large, the limit is .* pixels; scale it"):
            read()
