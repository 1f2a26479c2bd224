"""From labels as people write them to class numbers 0..C-1.

N labels, C classes. Labels are whole numbers, whole floats, booleans or strings. Where a meaning is
not certain, the labels are refused.
"""

from collections.abc import Sequence

import numpy as np

from ltdd_ray.common.errors import UserError
from ltdd_ray.data.names import class_name, printable, repeated

FEW_CLASSES = 1000  # up to here a gap in the labels is reported by the missing class's name


def refuse_absurd(where: str, labels: np.ndarray) -> None:
    """Raise ``UserError`` for a label that would leave most classes without an image."""
    if len(labels) and int(labels.max()) >= max(len(labels), FEW_CLASSES):
        raise UserError(
            f"{where}: label {int(labels.max())} is too large for {len(labels)} images, since each "
            "class needs an image; renumber the labels to 0..C-1"
        )


def whole_numbers(where: str, labels: np.ndarray) -> np.ndarray:
    """int64 (N,) of integers, booleans or whole floats. Raises ``UserError`` for others."""
    if labels.dtype.kind not in "iubf":
        raise UserError(
            f"{where}: labels are {labels.dtype}; expected whole numbers 0..C-1 or class names"
        )
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.floor(labels)):
        raise UserError(f"{where}: a label is not a whole number; write class numbers 0..C-1")
    outside = labels[(labels.astype(float) >= 2**53) | (labels.astype(float) < -(2**53))]
    if len(outside):
        raise UserError(f"{where}: label {outside[0]} is too large; renumber the labels to 0..C-1")
    return labels.astype(np.int64)


def number_names(where: str, labels: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """int64 (N,): the place of each name in ``names``. Raises ``UserError`` for an unknown one."""
    place = {name: k for k, name in enumerate(names)}
    unknown = sorted({label for label in labels if label not in place})
    if unknown:
        raise UserError(
            f"{where}: {len(unknown)} class name(s) that the training images lack, the first being "
            f"{printable(unknown[0])!r}; correct the labels or add training images"
        )
    return np.array([place[label] for label in labels], dtype=np.int64)


def names_of_numbers(where: str, train: np.ndarray) -> tuple[int, tuple[str, ...]]:
    """(lowest label, class names) of labels without names: each class is named by its number.

    Labels that run from 1 to C, or from any other number without a gap, are shifted to 0..C-1.
    """
    low, high = int(train.min(initial=0)), int(train.max(initial=0))
    if len(train) and low >= 0:
        low = int(train.min())
    shift = low if low > 0 and len(np.unique(train)) == high - low + 1 else 0
    refuse_absurd(where, train - shift)  # before the next line makes a name of every number
    return shift, tuple(str(k) for k in range(shift, high + 1))


def shifted(where: str, labels: np.ndarray, shift: int, names: Sequence[str]) -> np.ndarray:
    """int64 (N,): ``labels`` minus ``shift``, which :func:`names_of_numbers` found with ``names``.

    Raises ``UserError`` for a label that the training images lack, as it stands in the file.
    """
    outside = labels[(labels < shift) | (labels >= shift + len(names))]
    if len(outside):
        raise UserError(
            f"{where}: label {outside[0]} is not in {shift}..{shift + len(names) - 1}, the labels "
            "of the training images; number both parts in the same way, from 0"
        )
    return labels - shift


def same_names(where: str, names: tuple[str, ...], first: tuple[str, ...]) -> np.ndarray:
    """int64 (C,): the number in ``first`` of each class in ``names``.

    Raises ``UserError`` if the two name different classes, or if a repeated name leaves the order
    open.
    """
    if names == first:
        return np.arange(len(names))
    if sorted(names) != sorted(first):
        odd = ", ".join(repr(name) for name in sorted(set(names) ^ set(first))[:5])
        raise UserError(
            f"{where} names other classes than the first file ({odd or 'repeated names'}); export "
            "all files with the same class names"
        )
    if repeated(names):
        raise UserError(
            f"{where} names its classes in another order than the first file, and "
            f"{repeated(names)[0]!r} stands twice; export all files with the same order"
        )
    place = {name: k for k, name in enumerate(first)}
    return np.array([place[name] for name in names], dtype=np.int64)


def clean_names(names: Sequence[object]) -> tuple[str, ...]:
    return tuple(class_name(name) for name in names)
