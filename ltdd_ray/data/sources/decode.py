"""Decode image files into one uint8 array, with the pixels as a viewer shows them.

N images, K channels (1 grey, 3 RGB), H height, W width. One thread: for images of up to 64 pixels a
thread pool was slower, because pillow holds the interpreter lock except while it decompresses.
"""

import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageOps

from ltdd_ray.common.errors import UserError
from ltdd_ray.data.names import printable
from ltdd_ray.data.sources import heic

# Pillow knows more formats. Some start other programs: PostScript starts Ghostscript.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
EXTENSIONS = frozenset(extension for known in FORMATS.values() for extension in known) | {
    *heic.EXTENSIONS
}
COLOURLESS = ("1", "L")
# Kinds of conversion that change pixels, with what a note says of the images.
TURNED, LAID, FRAME, DEPTH, CMYK, GREY = KINDS = (
    "were turned upright, as their EXIF orientation says",
    "have transparent pixels and were laid on data.background {background}",
    "hold several pictures, of which the first is read",
    "have 16 bits per channel and were reduced to 8",
    "are CMYK and became RGB",
    "are grey and became RGB",
)
Converted = dict[str, tuple[int, str]]  # kind -> number of images, name of the first


def decode_images(
    encoded: Iterable[tuple[str, Path | bytes]],
    image_size: int | None,
    background: str = "white",
    notes: list[str] | None = None,
) -> np.ndarray:
    """Decode pairs (name, file or its bytes) to uint8 (N, K, H, W).

    Images are turned as their EXIF orientation says, laid on ``background`` where they are
    transparent, and resized to ``image_size`` x ``image_size`` pixels unless it is None. If any
    image is in colour, grey images become RGB. A sentence about each kind of conversion is added
    to ``notes``. Raises ``UserError`` naming an image that cannot be decoded, or two of different
    size if ``image_size`` is None.
    """
    images, converted, resized = decode_and_count(encoded, image_size, background)
    if images.shape[1] == 1:
        converted.pop(GREY, None)  # none is in colour
    if notes is not None:
        notes += describe_converted(converted, background)
        notes += describe_resized(f"{resized.total():,} image(s)", resized, image_size)
    return images


def decode_to_shape(file: Path, shape: tuple[int, int, int], background: str) -> np.ndarray:
    """One image as uint8 ``shape`` (K, H, W), grey or RGB as K says.

    Apart from that it is read as :func:`decode_images` reads it.
    """
    channels, height, width = shape
    image, _ = read_image(str(file), file, background)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return _to_array(image, None)


def describe_converted(converted: Converted, background: str) -> list[str]:
    """A sentence for each kind of conversion."""
    return [
        f"{count:,} image(s) {kind.format(background=background)}, for example {name}"
        for kind, (count, name) in sorted(converted.items(), key=lambda one: KINDS.index(one[0]))
    ]


def describe_resized(
    images: str, sizes: Collection[tuple[int, int]], image_size: int | None
) -> list[str]:
    """A sentence about ``images`` of ``sizes`` (width, height), unless there are none."""
    if not sizes:
        return []
    width, height = max(sizes, key=prod)
    largest = f"{width} x {height}"
    of = f"{len(sizes)} sizes, up to {largest}," if len(sizes) > 1 else f"size {largest}"
    distorted = any(width != height for width, height in sizes)
    return [
        f"{images} of {of} are resized to {image_size} x {image_size} pixels, "
        f"data.image_size{', which distorts those that are not square' if distorted else ''}"
    ]


def decode_and_count(
    encoded: Iterable[tuple[str, Path | bytes]], image_size: int | None, background: str
) -> tuple[np.ndarray, Converted, Counter[tuple[int, int]]]:
    """:func:`decode_images`, what was converted, and how many images of which size were resized.

    All grey images count as :data:`GREY`.
    """
    names, arrays = [], []
    converted: Converted = {}
    resized: Counter[tuple[int, int]] = Counter()
    for name, content in encoded:
        names.append(name)
        image, kinds = read_image(name, content, background)
        for kind in kinds:
            count, first = converted.get(kind, (0, printable(name)))
            converted[kind] = count + 1, first
        if image_size is not None and image.size != (image_size, image_size):
            resized[image.size] += 1
        arrays.append(_to_array(image, image_size))
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
    return images, converted, resized


def resize_images(images: np.ndarray, image_size: int | None, notes: list[str]) -> np.ndarray:
    """Resize uint8 (N, K, H, W) to (N, K, image_size, image_size) if ``image_size`` is given.

    A sentence about it is added to ``notes``.
    """
    height, width = images.shape[2:]
    if image_size is None or (height, width) == (image_size, image_size):
        return images
    notes += describe_resized(f"{len(images):,} image(s)", [(width, height)], image_size)
    if not images.size:
        return np.empty((*images.shape[:2], image_size, image_size), np.uint8)
    pictures = (
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        for image in images
    )
    return np.stack([_to_array(picture, image_size) for picture in pictures])


def lay_on(background: str, images: np.ndarray) -> np.ndarray:
    """uint8 (N, 3, H, W) of images with alpha (N, 4, H, W) laid on ``background``."""
    flat = [_flatten(Image.fromarray(image.transpose(1, 2, 0)), background)[0] for image in images]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in flat])


def refuse_unreadable_heic(files: Iterable[Path]) -> None:
    """Raise ``UserError`` for a HEIC photo among ``files`` that no installed package can read.

    So it is known before the images ahead of it are decoded.
    """
    for file in files:
        if file.suffix.lower() in heic.EXTENSIONS and heic.is_heic(file) and not heic.readable():
            raise UserError(f"{printable(str(file))} {heic.REMEDY}")


def read_image(
    name: str, content: Path | bytes, background: str
) -> tuple[Image.Image, tuple[str, ...]]:
    """One image of mode L or RGB, turned upright, and the :data:`KINDS` of its conversions."""
    with _opened(name, content) as image:
        converted = {  # of what loading the image may take away
            DEPTH: any(";16" in str(tile) for tile in getattr(image, "tile", ())),
            FRAME: getattr(image, "is_animated", False),
            TURNED: image.getexif().get(0x0112, 1) in range(2, 9),
        }
        image.load()
        _refuse_depth(printable(name), image)
        flat, laid = _flatten(ImageOps.exif_transpose(image), background)
        converted |= {LAID: laid, CMYK: image.mode == "CMYK", GREY: flat.mode == "L"}
        return flat, tuple(kind for kind, true in converted.items() if true)


def read_head(name: str, content: Path | bytes) -> tuple[tuple[int, int], bool]:
    """((width, height) upright, whether it is in colour), from the file's header."""
    with _opened(name, content) as image:
        width, height = image.size  # of a TIFF upright already
        turned = image.format != "TIFF" and image.getexif().get(0x0112) in (5, 6, 7, 8)
        return ((height, width) if turned else image.size), image.mode not in COLOURLESS


@contextmanager
def _opened(name: str, content: Path | bytes) -> Iterator[Image.Image]:
    """The image, not loaded yet; any error of the block says that it cannot be read."""
    name = printable(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with _open(name, content) as image:
                _refuse_depth(name, image)
                yield image
    except UserError:
        raise
    except Exception as error:  # pillow raises many unrelated types for broken files
        raise _unreadable(name, content, error) from None


def _open(name: str, content: Path | bytes) -> Image.Image:
    if isinstance(content, Path) and content.exists() and not content.is_file():
        raise UserError(f"{name} is not a regular file (a folder, pipe or device); remove it")
    source = BytesIO(content) if isinstance(content, bytes) else content
    formats = (*FORMATS, heic.FORMAT) if heic.readable() else tuple(FORMATS)
    return Image.open(source, formats=formats)


def _unreadable(name: str, content: Path | bytes, error: Exception) -> UserError:
    if isinstance(error, MemoryError):
        return UserError(
            f"{name} does not fit into memory when it is decoded; free some, or scale it down"
        )
    if isinstance(error, OSError) and error.errno:  # the system's; pillow's own have no number
        return UserError(
            f"{name} cannot be read: {os.strerror(error.errno).lower()}; check the file, its "
            "permissions and the disk"
        )
    if isinstance(error, Image.DecompressionBombError):
        return UserError(
            f"{name} is too large, the limit is {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; "
            "scale it down or leave it out"
        )
    if isinstance(error, Image.UnidentifiedImageError) and heic.is_heic(content):
        if not heic.readable():
            return UserError(f"{name} {heic.REMEDY}")
    elif isinstance(error, Image.UnidentifiedImageError):
        formats = ", ".join(FORMATS)
        return UserError(
            f"{name} is not a readable image (none of {formats}); repair or remove it, or convert "
            "it to one of these"
        )
    return UserError(
        f"{name} is not a readable image ({printable(str(error))}); repair or remove it"
    )


def _refuse_depth(name: str, image: Image.Image) -> None:
    if image.mode[0] in "IF":
        raise UserError(
            f"{name} has more than 8 bits per pixel (mode {image.mode}); "
            "convert it to 8-bit grey or RGB"
        )


def _flatten(image: Image.Image, background: str) -> tuple[Image.Image, bool]:
    """Mode L or RGB, and whether transparent pixels were laid on ``background``."""
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            under = Image.new("RGBA", layer.size, (*ImageColor.getrgb(background), 255))
            return Image.alpha_composite(under, layer).convert("RGB"), True
    return image.convert("L" if image.mode in COLOURLESS else "RGB"), False


def _to_array(image: Image.Image, image_size: int | None) -> np.ndarray:
    """uint8 (K, H, W)."""
    if image_size is not None and image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
