"""The distilled images of a page: PNG data URIs with soft labels, by class from head to tail.

Shapes: C classes, H height, W width.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ltdd_ray.data.groups import head_to_tail
from ltdd_ray.distill.artifact import DistilledSet

# Limits the size of the page: PNG hardly compresses learned images.
PAGE_VALUES = 12_000_000
LABELS_SHOWN = 5
PREVIEW_CLASSES, PREVIEW_IMAGES = 10, 3


@dataclass(frozen=True)
class Tile:
    """One image as a PNG data URI, and its largest soft labels as (class name, probability)."""

    source: str
    soft_label: list[tuple[str, float]]


@dataclass(frozen=True)
class Gallery:
    """The images of one class before and after distillation.

    ``count`` is the number of its training images, ``total`` that of its synthetic images, of which
    the page may show only the first. ``before`` is empty if the initial set was not kept.
    """

    name: str
    count: int
    total: int
    before: list[Tile]
    after: list[Tile]


def galleries(folder: Path, class_counts: Sequence[int]) -> list[Gallery]:
    """A gallery per class, the class with most training images first.

    Empty where ``folder`` holds no distilled set.
    """
    if not (folder / "distilled.safetensors").exists():
        return []
    distilled = DistilledSet.load(folder)
    initial = (
        DistilledSet.load(folder, "initial") if (folder / "initial.safetensors").exists() else None
    )
    shown = _shown_per_class(distilled, sets=1 if initial is None else 2)

    def gallery(k: int) -> Gallery:
        before = [] if initial is None else _tiles(initial, k, shown)
        return Gallery(
            name=distilled.class_names[k],
            count=class_counts[k],
            total=int((distilled.classes == k).sum()),
            before=before,
            after=_tiles(distilled, k, shown),
        )

    return [gallery(k) for k in head_to_tail(class_counts)]


@dataclass(frozen=True)
class Preview:
    """Some images of a set of ``total`` images: each row has an image of each of ``classes``."""

    classes: list[str]
    rows: list[list[str]]
    total: int


def preview(folder: Path, class_counts: Sequence[int]) -> Preview | None:
    """The first images of up to ``PREVIEW_CLASSES`` classes, evenly spaced from head to tail.

    None where ``folder`` holds no distilled set.
    """
    if not (folder / "distilled.safetensors").exists():
        return None
    distilled = DistilledSet.load(folder)
    shown = head_to_tail(class_counts, PREVIEW_CLASSES)
    members = [torch.nonzero(distilled.classes == k).flatten().tolist() for k in shown]
    # zip ends with the class that has fewest images.
    rows = [list(row) for row in zip(*members)][:PREVIEW_IMAGES]
    pixels = distilled.denormalize()
    sources = [[png_data_uri(pixels[image]) for image in row] for row in rows]
    return Preview([distilled.class_names[k] for k in shown], sources, len(distilled))


def png_data_uri(pixels: Tensor) -> str:
    """The data URI of a PNG, from pixels 0..1 of shape (1 or 3, H, W)."""
    levels = pixels.mul(255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2)
    return as_data_uri(Image.fromarray(levels.numpy()))


def as_data_uri(image: Image.Image) -> str:
    """The data URI of ``image`` as a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _shown_per_class(distilled: DistilledSet, sets: int) -> int:
    per_class = distilled.images[0].numel() * len(distilled.class_names) * sets
    return max(1, PAGE_VALUES // per_class)


def _tiles(images: DistilledSet, k: int, shown: int) -> list[Tile]:
    rows = torch.nonzero(images.classes == k).flatten()[:shown]
    pixels = images.denormalize(images.pictures[rows])
    return [
        Tile(png_data_uri(p), _largest(label, images.class_names))
        for p, label in zip(pixels, images.soft_labels[rows])
    ]


def _largest(soft_label: Tensor, class_names: Sequence[str]) -> list[tuple[str, float]]:
    """The ``LABELS_SHOWN`` largest entries of a soft label (C,), largest first."""
    top = soft_label.topk(min(LABELS_SHOWN, len(class_names)))
    return [(class_names[int(k)], float(share)) for k, share in zip(top.indices, top.values)]
