"""The distilled set as a file: all that is needed to train on it, and nothing to unpickle.

A stored image is a mosaic of f x f pictures (:mod:`ltdd_ray.distill.formation`); networks are
trained on the pictures. With f = 1, the default, image and picture are the same.

M stored images, P = M f^2 pictures, C classes, K x H x W image shape.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import usable_path, write_atomic
from ltdd_ray.common.hints import nearest_path
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.data.sources.decode import decode_to_shape
from ltdd_ray.distill.formation import decode
from ltdd_ray.distill.rounding import round_images, to_bytes
from ltdd_ray.distill.validity import CHECKSUM, checksum, find_fault

# 1 had no checksum and no mosaics: every picture was stored as an image of its own.
FORMAT = 2
READABLE = (1, 2)


@dataclass(frozen=True, eq=False)
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """A torch ``Dataset`` of (picture (K, H, W) in model space, soft label (C,)), P of them.

    Attributes:
        images: float32 (M, K, H, W) in model space, as stored.
        soft_labels: float32 (P, C), rows that sum to 1.
        classes: int64 (P,), the class that each picture was initialised for.
        learning_rate: the learned rate alpha, to train a network from scratch with.
        normalisation: maps pixels to model space and back.
        augmentation: the DSA strategy to train with.
        pictures_per_side: f.
        class_counts: C numbers, the training images of each class; empty where a file has none.
        provenance: what the set was made from (:func:`~ltdd_ray.distill.provenance.provenance`).
    """

    images: Tensor
    soft_labels: Tensor
    classes: Tensor
    learning_rate: float
    normalisation: Normalisation
    class_names: tuple[str, ...]
    augmentation: str
    pictures_per_side: int = 1
    class_counts: tuple[int, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def pictures(self) -> Tensor:
        """What networks are trained on: float32 (P, K, H, W) in model space."""
        return decode(self.images, self.pictures_per_side)

    def __len__(self) -> int:
        return len(self.soft_labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pictures[index], self.soft_labels[index]

    def denormalize(self, images: Tensor | None = None) -> Tensor:
        """Images (B, K, H, W), by default the set's pictures, as pixels in 0..1, clipped."""
        return self.normalisation.invert(self.pictures if images is None else images).clamp(0, 1)

    def pixels(self) -> Tensor:
        """The pictures as 8-bit files hold them: uint8 (P, K, H, W), clipped and rounded.

        Mosaics are rounded before they are decoded, as :meth:`in_8_bits` does.
        """
        stored = self.in_8_bits() if self.pictures_per_side > 1 else self
        return to_bytes(stored.denormalize())

    def read(self, *files: Path | str, background: str = "white") -> Tensor:
        """Image files as pixels for networks of this set: uint8 (N, K, H, W).

        They are turned upright, laid on ``background`` where they are transparent, resized and made
        grey or RGB as the run's own test images were. ``normalisation.apply`` maps the pixels to
        model space. Raises ``UserError`` naming a file that cannot be read.
        """
        _, channels, height, width = self.pictures.shape
        pixels = np.empty((len(files), channels, height, width), np.uint8)
        for image, file in zip(pixels, files):
            path = Path(usable_path(str(file)))
            image[:] = decode_to_shape(path, (channels, height, width), background)
        return torch.from_numpy(pixels)

    def clipped_share(self) -> float:
        """Share 0..1 of the stored values outside 0..255, which :meth:`pixels` clips.

        A hundredth of a grey level counts as rounding: real images come back from model space
        with such an error.
        """
        values = self.normalisation.invert(self.images) * 255
        return float(((values < -0.01) | (values > 255.01)).double().mean())

    def in_8_bits(self) -> "DistilledSet":
        """The set with its stored images rounded to 8 bits: what an export keeps of it."""
        return replace(self, images=round_images(self.images, self.normalisation))

    def to(self, device: torch.device | str) -> "DistilledSet":
        """The set with its tensors, and those of its normalisation, on ``device``."""
        return replace(
            self,
            images=self.images.to(device),
            soft_labels=self.soft_labels.to(device),
            classes=self.classes.to(device),
            normalisation=self.normalisation.to(device),
        )

    def save(self, folder: Path | str, name: str = "distilled") -> Path:
        """Write ``name``.safetensors and, for people, its metadata as ``name``.json.

        Each file appears whole. Returns the path of the first.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"images": self.images, "soft_labels": self.soft_labels, "classes": self.classes}
        state = self.normalisation.state()
        tensors |= {f"normalisation.{key}": value for key, value in state.items()}
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        described = {
            "format": FORMAT,
            "learning_rate": self.learning_rate,
            "class_names": list(self.class_names),
            "class_counts": list(self.class_counts),
            "augmentation": self.augmentation,
            "pictures_per_side": self.pictures_per_side,
            "provenance": dict(self.provenance),
        }
        described[CHECKSUM] = checksum(tensors, described)
        path = folder / f"{name}.safetensors"
        text = json.dumps(described, indent=2, sort_keys=True)
        write_atomic(path, save(tensors, {"ltdd_ray": text}))
        write_atomic(folder / f"{name}.json", text)
        return path

    @classmethod
    def load(cls, folder: Path | str, name: str = "distilled") -> "DistilledSet":
        """Read a set from a run's folder, its ``distilled`` folder or the file itself.

        Raises ``UserError`` where there is none, and for one that is damaged, that contradicts
        itself (:mod:`ltdd_ray.distill.validity`) or that has an unknown format.
        """
        path = find_distilled(folder, name)
        try:
            return _from_file(path)
        except (
            *(SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError),
            *(RecursionError, UserError),
        ) as error:
            reason = f"no {error} in it" if isinstance(error, KeyError) else error
            raise UserError(
                f"{path}: not a readable distilled set ({reason}); restore the file, or delete it "
                "and run the same command again to distil anew"
            ) from None


def find_distilled(place: Path | str, name: str = "distilled") -> Path:
    """The file of a set: ``place`` is that file, a run's folder or its ``distilled`` folder.

    Raises ``UserError`` where there is none.
    """
    place = Path(usable_path(str(place)))
    if not place.exists():
        raise UserError(
            f"{place}: does not exist; give the folder of a run, or a {name}.safetensors"
            f"{nearest_path(place)}"
        )
    if place.is_file() and place.suffix != ".safetensors":
        raise UserError(
            f"{place}: not a distilled set; give the folder of a run, or a {name}.safetensors"
        )
    candidates = (
        [place]
        if place.is_file()
        else [place / f"{name}.safetensors", place / "distilled" / f"{name}.safetensors"]
    )
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(
        f"{place}: no {name}.safetensors in it; run `ltdd-ray distill CONFIG` first or give the "
        "run's folder"
    )


def _from_file(path: Path) -> DistilledSet:
    with safe_open(path, framework="pt") as file:
        described = json.loads((file.metadata() or {})["ltdd_ray"])
        if described["format"] not in READABLE:
            raise ValueError(f"format {described['format']}; this version reads {READABLE}")
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    if fault := find_fault(tensors, described):
        raise ValueError(fault)
    prefix = "normalisation."
    state = {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
    return DistilledSet(
        images=tensors["images"],
        soft_labels=tensors["soft_labels"],
        classes=tensors["classes"],
        learning_rate=described["learning_rate"],
        normalisation=Normalisation.from_state(state),
        class_names=tuple(described["class_names"]),
        augmentation=described["augmentation"],
        pictures_per_side=described.get("pictures_per_side", 1),
        class_counts=tuple(described.get("class_counts", ())),
        provenance=described["provenance"],
    )
