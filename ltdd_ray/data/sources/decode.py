"""Decode image files into one uint8 array.

N images, K channels (1 grey, 3 RGB), H height, W width. One thread: for images of up to 64 pixels a
thread pool was slower, because pillow holds the interpreter lock except while it decompresses.
"""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ltdd_ray.common.errors import UserError


def decode_images(
    encoded: Iterable[tuple[str, Path | bytes]], image_size: int | None
) -> np.ndarray:
    """Decode pairs (name, file or its bytes) to uint8 (N, K, H, W).

    Images are resized to ``image_size`` x ``image_size`` pixels unless it is None. If any image is
    in colour, grey images become RGB. Alpha is dropped. Raises ``UserError`` naming an image that
    cannot be decoded, or two of different size if ``image_size`` is None.
    """
    names, arrays = [], []
    for name, content in encoded:
        names.append(name)
        arrays.append(_decode(name, content, image_size))
    if not arrays:
        raise UserError("there is not a single image to read; check data.path and data.test_path")
    height, width = arrays[0].shape[1:]
    for name, array in zip(names, arrays):
        if array.shape[1:] != (height, width):
            raise UserError(
                f"images differ in size: {names[0]} is {width} x {height} pixels but {name} is "
                f"{array.shape[2]} x {array.shape[1]}; set data.image_size to resize all of them"
            )
    images = np.empty((len(arrays), max(len(array) for array in arrays), height, width), np.uint8)
    for image, array in zip(images, arrays):
        image[:] = array  # copies a grey plane into all three channels
    return images


def resize_images(images: np.ndarray, image_size: int | None) -> np.ndarray:
    """Resize uint8 (N, K, H, W) to (N, K, image_size, image_size) if ``image_size`` is given."""
    if image_size is None or images.shape[2:] == (image_size, image_size):
        return images
    pictures = (
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        for image in images
    )
    return np.stack([_to_array(picture, image_size) for picture in pictures])


def _decode(name: str, content: Path | bytes, image_size: int | None) -> np.ndarray:
    try:
        with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as image:
            image.load()
    except Exception as error:  # pillow raises many unrelated types for broken files
        raise UserError(f"{name} is not a readable image ({error}); repair or remove it") from None
    if image.mode[0] in "IF":
        raise UserError(
            f"{name} has more than 8 bits per pixel (mode {image.mode}); "
            "convert it to 8-bit grey or RGB"
        )
    return _to_array(image, image_size)


def _to_array(image: Image.Image, image_size: int | None) -> np.ndarray:
    """uint8 (K, H, W)."""
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if image_size is not None and image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
