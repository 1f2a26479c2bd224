"""The distilled set as a file: everything needed to train on it, and nothing that must be unpickled.

M images, C classes, K x H x W image shape.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_atomic
from ltdd_ray.data.normalisation import Normalisation

FORMAT = 1


@dataclass(frozen=True, eq=False)
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """A torch ``Dataset`` of (image (K, H, W) in model space, soft label (C,)).

    Attributes:
        images: float32 (M, K, H, W) in model space. soft_labels: float32 (M, C), rows that sum to 1.
        classes: int64 (M,), the class each image was initialised for.
        learning_rate: the learned rate alpha, to train a network from scratch with.
        normalisation: the way from pixels to model space and back. augmentation: the DSA strategy to train with.
        class_counts: C numbers, the training images of each class; empty where a file does not know.
        provenance: where the set comes from, as :func:`~ltdd_ray.distill.provenance.provenance` describes it.
    """

    images: Tensor
    soft_labels: Tensor
    classes: Tensor
    learning_rate: float
    normalisation: Normalisation
    class_names: tuple[str, ...]
    augmentation: str
    class_counts: tuple[int, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.soft_labels[index]

    def denormalize(self, images: Tensor | None = None) -> Tensor:
        """Images (B, K, H, W), by default the set's own, as pixels in 0..1 (clipped)."""
        return self.normalisation.invert(self.images if images is None else images).clamp(0, 1)

    def pixels(self) -> Tensor:
        """The images as 8-bit files hold them: uint8 (M, K, H, W), clipped and rounded."""
        return self.denormalize().mul(255).round().to(torch.uint8)

    def clipped_share(self) -> float:
        """Share 0..1 of pixel values that lie outside of what an image file can hold, and that :meth:`pixels` clips.

        A hundredth of a grey level outside is taken for rounding: real images come back from model space that far off.
        """
        values = self.normalisation.invert(self.images) * 255
        return float(((values < -0.01) | (values > 255.01)).double().mean())

    def in_8_bits(self) -> "DistilledSet":
        """The set after a way through 8-bit images: what whoever trains on an export gets to see."""
        return replace(self, images=self.normalisation.apply(self.pixels()))

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
        """Write ``name``.safetensors, metadata inside and, for people, as ``name``.json beside it; each appears whole."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"images": self.images, "soft_labels": self.soft_labels, "classes": self.classes}
        tensors |= {
            f"normalisation.{key}": value for key, value in self.normalisation.state().items()
        }
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        described = {
            "format": FORMAT,
            "learning_rate": self.learning_rate,
            "class_names": list(self.class_names),
            "class_counts": list(self.class_counts),
            "augmentation": self.augmentation,
            "provenance": dict(self.provenance),
        }
        path = folder / f"{name}.safetensors"
        text = json.dumps(described, indent=2, sort_keys=True)
        write_atomic(path, save(tensors, {"ltdd_ray": text}))
        write_atomic(folder / f"{name}.json", text)
        return path

    @classmethod
    def load(cls, folder: Path | str, name: str = "distilled") -> "DistilledSet":
        """Read what :meth:`save` wrote. ``folder`` may be the run's folder, its ``distilled`` folder or the file itself.

        Raises ``UserError`` where there is none, or one that is damaged or of another format.
        """
        path = find_distilled(folder, name)
        try:
            return _from_file(path)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise UserError(
                f"{path}: not a readable distilled set ({error}); distil again or restore the file"
            ) from None


def find_distilled(place: Path | str, name: str = "distilled") -> Path:
    """The file of a set, given itself or the folder of its run or the ``distilled`` folder in there.

    Raises ``UserError`` where there is none.
    """
    place = Path(place).expanduser()
    if not place.exists():
        raise UserError(
            f"{place}: does not exist; give the folder of a run, or a {name}.safetensors"
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
        f"{place}: no {name}.safetensors in it; run `ltdd-ray distill CONFIG` first or give the run's folder"
    )


def _from_file(path: Path) -> DistilledSet:
    with safe_open(path, framework="pt") as file:
        described = json.loads((file.metadata() or {})["ltdd_ray"])
        if described["format"] != FORMAT:
            raise ValueError(f"format {described['format']}; this version reads {FORMAT}")
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
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
        class_counts=tuple(described.get("class_counts", ())),
        provenance=described["provenance"],
    )
