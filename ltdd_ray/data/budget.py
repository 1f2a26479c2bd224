"""The number of synthetic images of each class.

C classes, n_k training images of class k, N their sum.
"""

from collections.abc import Sequence

from torch import Tensor

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DistillConfig


def class_budget(config: DistillConfig, class_counts: Sequence[int]) -> tuple[int, ...]:
    """Synthetic images of each class (C,): ``ipc`` for every class, or as ``budget`` divides them.

    Every class has at least one. Raises ``UserError`` if the budget does not fit the number of
    classes.
    """
    classes, budget = len(class_counts), config.budget
    if budget is None:
        assert config.ipc is not None  # the config requires one of the two
        return (config.ipc,) * classes
    if budget.per_class is not None:
        if len(budget.per_class) != classes:
            raise UserError(
                f"distill.budget.per_class has {len(budget.per_class)} numbers, but the data has "
                f"{classes} classes; give one number per class"
            )
        return budget.per_class
    assert budget.images is not None  # see above
    if budget.images < classes:
        raise UserError(
            f"distill.budget.images {budget.images} is less than one image for each of the "
            f"{classes} classes; raise it to at least {classes}"
        )
    return share_out(budget.images, class_counts if budget.share == "count" else [1] * classes)


def picture_budget(config: DistillConfig, class_counts: Sequence[int]) -> tuple[int, ...]:
    """Pictures per class (C,), f^2 for each image. Raises ``UserError`` as :func:`class_budget`."""
    return tuple(n * config.pictures_per_image for n in class_budget(config, class_counts))


def repeated(order: Tensor, wanted: int) -> Tensor:
    """The first ``wanted`` of ``order`` (n,), which starts again where it is too short."""
    return order.repeat(-(-wanted // len(order)))[:wanted]


def describe_shortage(budget: Sequence[int], class_counts: Sequence[int]) -> str:
    """A sentence about classes with fewer real than synthetic images; empty if there are none."""
    short = [count for wanted, count in zip(budget, class_counts) if count < wanted]
    if not short:
        return ""
    return (
        f"{len(short)} of {len(budget)} classes have fewer images than synthetic ones, the "
        f"smallest {min(short)}: their initial sets are filled with augmented repeats or crops, "
        "random selections with plain ones"
    )


def share_out(images: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Divide ``images`` (at least C) in proportion to ``weights`` (C,), by largest remainder.

    A class whose exact share lies below one gets one image; the others divide the rest. Ties go to
    the larger weight, then to the lower label. All arithmetic is in integers, so the result is the
    same on every machine.
    """
    single: set[int] = set()
    while True:
        rest, total = images - len(single), sum(w for k, w in enumerate(weights) if k not in single)
        below = {k for k, w in enumerate(weights) if k not in single and rest * w < total}
        if not below:
            break
        single |= below
    given = [1 if k in single else rest * w // total for k, w in enumerate(weights)]
    shared = [k for k in range(len(weights)) if k not in single]
    shared.sort(key=lambda k: (-(rest * weights[k] % total), -weights[k], k))
    for k in shared[: images - sum(given)]:
        given[k] += 1
    return tuple(given)
