"""Train any torch module on a distilled set alone, and measure it: one network of the evaluation.

B batch, N test images, C classes, K x H x W image shape.
"""

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ltdd_ray.common.device import default_device
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import EvaluateConfig
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.evaluate.sets import TrainingSet
from ltdd_ray.evaluate.train import Measurement, measure, train_network
from ltdd_ray.nn.augment import Augmentation


def evaluate(
    distilled: DistilledSet,
    model: nn.Module,
    test_images: Tensor,
    test_labels: Tensor,
    *,
    epochs: int = 1000,
    batch_size: int = 128,
    learning_rate: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    augmentation: str | None = None,
    seed: int = 0,
    device: torch.device | None = None,
) -> Measurement:
    """Train ``model`` on ``distilled`` alone, and measure it on images that it has not seen.

    This is the published protocol (Zhao et al., CVPR 2025, Sec. 5.1): SGD at the set's own rate, a
    tenth of it in the second half of the epochs, DSA and the stored soft labels. The paper reports
    mean and standard deviation of five networks; give a freshly initialised one to each call.

    Args:
        distilled: the set to train on.
        model: maps images (B, K, H, W) in model space to logits (B, C). It is trained in place,
            from the weights that it has.
        test_images: pixels 0..255, uint8 (N, K, H, W), at least one.
        test_labels: whole numbers 0..C-1 in the order of ``distilled.class_names``, (N,).
        learning_rate: None takes the rate of the set.
        augmentation: DSA operations joined by ``_``; None takes those of the set, ``""`` none.
        seed: decides the order of the batches and the augmentation, not the weights of ``model``.
        device: None takes the GPU if there is one.

    Returns the share of test images predicted correctly for each class, ``.per_class`` (C,), its
    mean ``.accuracy`` (balanced accuracy), the share of all images ``.accuracy_over_images``, and
    the mean probability of the predicted and of the true class. A class without test images has NaN
    and is left out of the mean.
    Raises ``UserError`` for a number out of its range, for images, labels or a model of another
    kind, and where a weight is not finite.
    """
    device = device or default_device()
    rate = distilled.learning_rate if learning_rate is None else learning_rate
    settings = _settings(
        epochs=epochs, batch_size=batch_size, lr=rate, momentum=momentum, weight_decay=weight_decay
    )
    augment = Augmentation(distilled.augmentation if augmentation is None else augmentation)
    images, labels = torch.as_tensor(test_images), torch.as_tensor(test_labels)
    _check_test(distilled, images, labels)
    model.to(device)
    given = TrainingSet(
        distilled.pictures, distilled.soft_labels, rate, lower_rate="give a lower learning_rate"
    ).to(device)
    _check_model(model, given)
    train_network(model, given, settings, augment, seed)
    normalisation = distilled.normalisation.to(device)
    return measure(model, normalisation.apply(images.to(device)), labels.to(device, torch.int64))


def _settings(**values: float) -> EvaluateConfig:
    """The section of a config has the ranges; its key ``lr`` is the argument ``learning_rate``."""
    try:
        return EvaluateConfig.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = "learning_rate" if wrong["loc"][0] == "lr" else wrong["loc"][0]
        must_be = wrong["msg"].removeprefix("Input should be ")
        raise UserError(f"{name} is {wrong['input']!r}; it must be {must_be}") from None


def _check_test(distilled: DistilledSet, images: Tensor, labels: Tensor) -> None:
    shape, names = tuple(distilled.pictures.shape[1:]), distilled.class_names
    if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != shape:
        raise UserError(
            f"test_images are {images.dtype} of shape {tuple(images.shape)}; "
            f"give pixels 0..255 as torch.uint8 of shape (N, {', '.join(map(str, shape))})"
        )
    if labels.shape != (len(images),) or labels.is_floating_point():
        raise UserError(
            f"test_labels are {labels.dtype} of shape {tuple(labels.shape)}; "
            f"give {len(images)} whole numbers, one per image"
        )
    seen = set(labels.tolist())
    if outside := sorted(seen - set(range(len(names)))):
        raise UserError(f"test label {outside[0]} lies outside 0..{len(names) - 1}; renumber it")
    if not seen:
        raise UserError("there are no test images, so no accuracy is known; give some")


@torch.no_grad()
def _check_model(model: nn.Module, given: TrainingSet) -> None:
    classes, images = given.soft_labels.shape[1], given.images[:2]
    try:
        logits = model.eval()(images)
    except (RuntimeError, ValueError) as error:  # from any layer of a stranger's module
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"the model does not take images of shape {tuple(images.shape)}, those of the set "
            f"({reason}); build it for {tuple(images.shape[1:])}"
        ) from error
    if logits.shape[1:] != (classes,):
        raise UserError(
            f"the model returns shape {tuple(logits.shape)} for 2 images; "
            f"it must return one logit per class, (2, {classes})"
        )
