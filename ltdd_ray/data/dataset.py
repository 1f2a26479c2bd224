"""Labelled images: :class:`LongTailedDataset` for training, :class:`LabelledImages` for evaluation.

N images, C classes, K channels, H height, W width.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ltdd_ray.common.errors import UserError
from ltdd_ray.data.mapped import MappedImages, image_digests


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images for evaluation; a class may have none.

    Attributes:
        images: uint8 (N, K, H, W), values 0..255, K = 1 or 3; an array, or images mapped from disk.
        labels: int64 (N,), values 0..C-1.
        class_names: C names, in label order.
        notes: sentences about what was converted or passed over while reading.

    Images are arrays, not tensors, because Ray shares arrays between processes without a copy.
    Nothing here copies all images of a mapped set. Raises ``UserError`` for any other shape, type
    or label.
    """

    images: np.ndarray | MappedImages
    labels: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (
            self.images.dtype != np.uint8
            or self.images.ndim != 4
            or self.images.shape[1] not in (1, 3)
        ):
            raise UserError(
                f"images are {self.images.dtype} of shape {self.images.shape}; "
                "expected uint8 (N, 1 or 3 channels, height, width)"
            )
        if self.labels.shape != (len(self.images),) or self.labels.dtype.kind not in "iu":
            raise UserError(
                f"labels are {self.labels.dtype} of shape {self.labels.shape}; expected "
                f"{len(self.images)} whole numbers, one per image"
            )
        outside = self.labels[(self.labels < 0) | (self.labels >= self.num_classes)]
        if len(outside):
            raise UserError(
                f"label {outside.min()} lies outside 0..{self.num_classes - 1}; "
                "renumber the labels to 0..C-1"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(K, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def images_at(self, indices: np.ndarray) -> np.ndarray | MappedImages:
        """The images at ``indices`` (int (M,)), in that order; mapped images stay on disk."""
        return (
            self.images.take(indices)
            if isinstance(self.images, MappedImages)
            else self.images[indices]
        )

    def digests(self) -> list[bytes]:
        """A hash of each image, equal for equal pixels."""
        if isinstance(self.images, MappedImages):
            return self.images.digests()
        return image_digests(self.images)

    @property
    def bytes_in_memory(self) -> int:
        """Bytes of the images; 0 if they are mapped."""
        return 0 if isinstance(self.images, MappedImages) else self.images.nbytes

    @cached_property
    def class_counts(self) -> np.ndarray:
        """int64 (C,): n_k, the number of images of class k."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of images, labels and class names: 16 hex digits, equal only for equal data.

        For mapped images the identity of their files is hashed instead of the pixels, because
        hashing the pixels would read all files.
        """
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        if isinstance(self.images, MappedImages):
            digest.update(self.images.identity.encode())
            digest.update(np.ascontiguousarray(self.images.rows).data)
        else:
            digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels.astype(np.int64)).data)
        return digest.hexdigest()[:16]


class LongTailedDataset(LabelledImages):
    """Images for training; every class has at least one. Raises ``UserError`` otherwise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        empty = np.flatnonzero(self.class_counts == 0)
        if len(empty):
            names = ", ".join(repr(self.class_names[k]) for k in empty[:5])
            raise UserError(
                f"{len(empty)} class(es) without a single image: {names}; "
                "add images or drop the class"
            )

    @property
    def prior(self) -> np.ndarray:
        """float64 (C,): s_k = n_k / N."""
        return self.class_counts / len(self)

    def subset(self, indices: np.ndarray) -> "LongTailedDataset":
        """The images at ``indices`` (int (M,)), in that order, under the same class names."""
        return LongTailedDataset(self.images_at(indices), self.labels[indices], self.class_names)
