"""How many synthetic images each class gets.

C classes, n_k training images of class k, N their sum.
"""

from collections.abc import Sequence

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DistillConfig


def class_budget(config: DistillConfig, class_counts: Sequence[int]) -> tuple[int, ...]:
    """Images per class (C,), each at least one: ``ipc`` of every class, or what ``budget`` says.

    Raises ``UserError`` where the budget does not fit the number of classes.
    """
    classes, budget = len(class_counts), config.budget
    if budget is None:
        assert config.ipc is not None  # the config asks for one of the two
        return (config.ipc,) * classes
    if budget.per_class is not None:
        if len(budget.per_class) != classes:
            raise UserError(
                f"distill.budget.per_class names {len(budget.per_class)} classes but the data has {classes}; give as many numbers"
            )
        return budget.per_class
    assert budget.images is not None  # likewise
    if budget.images < classes:
        raise UserError(
            f"distill.budget.images {budget.images} is less than one image for each of the {classes} classes; raise it to at "
            f"least {classes}"
        )
    return share_out(budget.images, class_counts if budget.share == "count" else [1] * classes)


def picture_budget(config: DistillConfig, class_counts: Sequence[int]) -> tuple[int, ...]:
    """Pictures per class (C,), f^2 for each image. Raises ``UserError`` as :func:`class_budget`."""
    return tuple(n * config.pictures_per_image for n in class_budget(config, class_counts))


def describe_shortage(budget: Sequence[int], class_counts: Sequence[int]) -> str:
    """What happens to classes with fewer images than they shall get, for the run to say; empty where there are none."""
    short = [count for wanted, count in zip(budget, class_counts) if count < wanted]
    if not short:
        return ""
    return (
        f"{len(short)} of {len(budget)} classes have fewer images than synthetic ones, the smallest {min(short)}: their initial "
        "sets are filled with augmented repeats, random selections with plain ones"
    )


def share_out(images: int, weights: Sequence[int]) -> tuple[int, ...]:
    """``images`` (at least C) divided in proportion to ``weights`` (C,), at least one each, by largest remainder.

    Classes whose exact share lies below one get one, the others divide what is left. Ties go to the larger weight, then to the
    lower label. Whole numbers throughout, so that every machine finds the same.
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
