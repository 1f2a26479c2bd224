"""Checks of a distilled set that was read from a file: shapes, ranges and a checksum."""

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

CHECKSUM = "checksum"  # its key in the metadata
_LARGEST = sys.float_info.max
_LABEL_SUM = 1e-3  # how far a row of float32 labels may sum from 1


def checksum(tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> str:
    """SHA-256 of every tensor (name, dtype, shape, bytes) and of the metadata but the checksum."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    rest = {key: value for key, value in described.items() if key != CHECKSUM}
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()


def find_fault(tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> str | None:
    """What is wrong with the content of a set's file, in words; None for a sound one.

    A file of format 1 has no checksum; its shapes and values are checked alike.
    """
    fault = _shape_fault(tensors, described) or _value_fault(tensors, described)
    if fault or described["format"] == 1:
        return fault
    if CHECKSUM not in described:
        return "the metadata has no checksum"
    if described[CHECKSUM] != checksum(tensors, described):
        return "the checksum differs, so bytes were altered after the set was written"
    return None


def _shape_fault(tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> str | None:
    images, labels, classes = (tensors[name] for name in ("images", "soft_labels", "classes"))
    if fault := _metadata_fault(described):
        return fault
    names, counts = described["class_names"], described.get("class_counts", ())
    side = described.get("pictures_per_side", 1)
    if images.dtype != torch.float32 or images.dim() != 4 or not images.numel():
        return f"images are {_form(images)}, not float32 of shape (M, K, H, W)"
    if not 1 <= side <= min(images.shape[2:]):
        return f"pictures_per_side is {side!r} for images of {images.shape[2]} x {images.shape[3]}"
    pictures = len(images) * side**2
    if labels.dtype != torch.float32 or labels.shape != (pictures, len(names)):
        return (
            f"soft labels are {_form(labels)}, not float32 of shape ({pictures}, {len(names)}) "
            f"for {pictures} pictures and {len(names)} classes"
        )
    if classes.dtype != torch.int64 or classes.shape != (pictures,):
        return f"classes are {_form(classes)}, not int64 of shape ({pictures},)"
    if counts and len(counts) != len(names):
        return f"there are {len(counts)} class counts for {len(names)} classes"
    return _normalisation_shape_fault(tensors, images.shape)


def _metadata_fault(described: Mapping[str, Any]) -> str | None:
    """Wrong types of values. Raises ``UnicodeEncodeError`` for text that no file can hold."""
    json.dumps(dict(described), ensure_ascii=False).encode()
    names, counts = described["class_names"], described.get("class_counts", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "class_names is no list of texts"
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        return "class_counts is no list of numbers of images"
    if not isinstance(described["augmentation"], str):
        return f"augmentation is {described['augmentation']!r}, not a text"
    if not isinstance(described["provenance"], dict):
        return "provenance is no mapping"
    if type(described.get("pictures_per_side", 1)) is not int:
        return f"pictures_per_side is {described['pictures_per_side']!r}, not a whole number"
    return None


def _normalisation_shape_fault(tensors: Mapping[str, Tensor], shape: torch.Size) -> str | None:
    channels, dim = shape[1], shape[1:].numel()
    wanted = {
        "mean": (channels, 1, 1),
        "std": (channels, 1, 1),
        "centre": (dim,),
        "whiten": (dim, dim),
        "unwhiten": (dim, dim),
    }
    for name, size in wanted.items():
        tensor = tensors.get(f"normalisation.{name}")
        if tensor is not None and (tensor.shape != size or tensor.dtype != torch.float32):
            return f"the normalisation's {name} is {_form(tensor)}, not float32 of shape {size}"
    return None


def _value_fault(tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> str | None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            return f"{name} has values that are not finite"
    labels, classes = tensors["soft_labels"], tensors["classes"]
    if (labels < 0).any() or (labels > 1).any():
        return "soft labels lie outside 0..1"
    sums = labels.double().sum(1)
    if ((sums - 1).abs() > _LABEL_SUM).any():
        row = int((sums - 1).abs().argmax())
        return f"soft label {row} sums to {float(sums[row]):.4g}, not to 1"
    last = len(described["class_names"]) - 1
    if classes.min() < 0 or classes.max() > last:
        wrong = int(classes[(classes < 0) | (classes > last)][0])
        return f"class number {wrong} is not in 0..{last}"
    std = tensors.get("normalisation.std")
    if std is not None and (std <= 0).any():
        return "the normalisation has a deviation that is not above 0"
    rate = described["learning_rate"]
    if type(rate) not in (int, float) or not 0 < rate <= _LARGEST:
        return f"the learning rate is {rate!r}, not a number above 0"
    return None


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
