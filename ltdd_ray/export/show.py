"""``ltdd-ray show``: the distilled pictures as one image, a row per class, as PNG or in a terminal.

Shapes: H, W height and width of a picture.
"""

import base64
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import usable_path, write_atomic
from ltdd_ray.common.terminal import printable
from ltdd_ray.data.groups import head_to_tail
from ltdd_ray.distill.artifact import DistilledSet, find_distilled

FILE = "contact_sheet.png"
ROWS, COLUMNS = 100, 20  # at most; the sheet of 1,000 classes would be too tall for viewers
SMALLEST, LARGEST = 48, 128  # pixels of the longer side of a shown picture
LABEL_WIDTH, GAP, FONT_SIZE = 168, 4, 13
LONGEST_NAME = 22  # characters
PAPER, INK, DIM = (255, 255, 255), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class ContactSheet:
    """The written ``file``, and how much of the set it shows."""

    file: Path
    png: bytes
    classes: tuple[int, int]
    pictures: tuple[int, int]

    def sentence(self) -> str:
        """What to tell the user; both pairs are (shown, in the set)."""
        parts = (
            f"{shown} of {there} {unit}" if shown < there else f"{there} {unit}"
            for (shown, there), unit in ((self.classes, "classes"), (self.pictures, "pictures"))
        )
        return f"wrote {self.file}: {', '.join(parts)}"


def show(place: Path, output: Path | None) -> ContactSheet:
    """Write the contact sheet of the set at ``place`` as a PNG.

    ``place`` is a run's folder, its folder ``distilled``, or the file. The default ``output`` is
    ``contact_sheet.png`` beside the file. Raises ``UserError`` where there is no set, and where
    ``output`` cannot be written.
    """
    file = find_distilled(place)
    path = Path(usable_path(str(output or file.with_name(FILE))))
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: the sheet is a PNG; give --output a name that ends with .png")
    distilled = DistilledSet.load(file)
    rows = _rows(distilled)
    buffer = io.BytesIO()
    draw_sheet(distilled, rows).save(buffer, "png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise UserError(
            f"{path}: not writable: {error.strerror or error}; choose another file with --output"
        ) from error
    return ContactSheet(
        path,
        buffer.getvalue(),
        (len(rows), len(distilled.class_names)),
        (sum(map(len, rows.values())), len(distilled)),
    )


def _rows(distilled: DistilledSet) -> dict[int, list[int]]:
    """The shown pictures of each shown class, the class with most training images first.

    Of too many classes those are shown that lie evenly from head to tail.
    """
    counts = distilled.class_counts or len(distilled.class_names) * (0,)
    classes = distilled.classes.numpy()
    return {k: np.flatnonzero(classes == k)[:COLUMNS].tolist() for k in head_to_tail(counts, ROWS)}


def draw_sheet(distilled: DistilledSet, rows: Mapping[int, Sequence[int]]) -> Image.Image:
    """The sheet: per class its name, its number of training images if known, and its pictures.

    ``rows`` has the indices of the pictures of each class, in the order of the sheet.
    """
    pixels = distilled.pixels().permute(0, 2, 3, 1).numpy()  # (P, H, W, 1 or 3)
    width, height = _shown_size(pixels.shape[2], pixels.shape[1])
    columns = max(map(len, rows.values()), default=0)
    sheet = Image.new(
        "RGB",
        (LABEL_WIDTH + columns * (width + GAP) + GAP, len(rows) * (height + GAP) + GAP),
        PAPER,
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for number, (k, members) in enumerate(rows.items()):
        top = GAP + number * (height + GAP)
        middle = top + height // 2
        draw.text((GAP, middle - FONT_SIZE - 2), _short(distilled.class_names[k]), INK, font)
        if distilled.class_counts:
            draw.text((GAP, middle + 2), f"{distilled.class_counts[k]:,} images", DIM, font)
        for column, picture in enumerate(members):
            image = pixels[picture]
            shown = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
            # Enlarged pixels stay sharp squares; a smaller picture is averaged.
            how = Image.Resampling.NEAREST if width >= shown.width else Image.Resampling.BOX
            left = LABEL_WIDTH + column * (width + GAP)
            sheet.paste(shown.resize((width, height), how), (left, top))
    return sheet


def _shown_size(width: int, height: int) -> tuple[int, int]:
    """The size of a shown picture: a small one is enlarged by a whole number."""
    longer = max(width, height)
    if longer > LARGEST:
        return max(1, width * LARGEST // longer), max(1, height * LARGEST // longer)
    scale = -(-SMALLEST // longer)
    return width * scale, height * scale


def _short(name: str) -> str:
    name = " ".join(printable(name).split())
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."


def terminal_image(png: bytes, environment: Mapping[str, str]) -> str | None:
    """What shows a PNG in the terminal that ``environment`` tells of; None if none is known.

    Protocols: kitty's graphics protocol and iTerm2's inline images.
    """
    data = base64.b64encode(png).decode()
    if "KITTY_WINDOW_ID" in environment or environment.get("TERM") == "xterm-kitty":
        return "".join(_kitty_parts(data)) + "\n"
    if environment.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm"):
        return f"\x1b]1337;File=inline=1;size={len(png)}:{data}\x07\n"
    return None


def _kitty_parts(data: str, size: int = 4096) -> Iterator[str]:
    for start in range(0, len(data), size):
        more = int(start + size < len(data))
        keys = f"a=T,f=100,m={more}" if start == 0 else f"m={more}"
        yield f"\x1b_G{keys};{data[start : start + size]}\x1b\\"


def print_sheet(sheet: ContactSheet) -> None:
    """Show the sheet if stdout is a terminal that can, and print where it is."""
    if sys.stdout.isatty() and (image := terminal_image(sheet.png, os.environ)):
        sys.stdout.write(image)
    print(sheet.sentence())
