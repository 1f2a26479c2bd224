"""The layout of DD-Ranking (Li et al., arXiv 2505.13300), which its evaluators read as tensors.

The images are not rounded to 8 bits. DD-Ranking evaluates on balanced data and labels random images
with teachers of its own, so its scores are not those of results.json.
"""

from pathlib import Path

import torch
from torch import Tensor

from ltdd_ray.common.errors import UserError
from ltdd_ray.distill.artifact import DistilledSet

_CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# By data.name: number of classes, and mean and deviation of each channel of pixels in 0..1.
BENCHMARKS = {
    "cifar10": (10, *_CIFAR),
    "cifar100": (100, *_CIFAR),
    "tiny_imagenet": (200, *_IMAGENET),
}


def write_dd_ranking(distilled: DistilledSet, folder: Path) -> None:
    """``images.pt``, ``labels.pt`` and ``lr.pt``, class by class.

    float32 (M, 3, H, W) in the normalisation of DD-Ranking, float32 logits (M, C) whose softmax are
    the soft labels, and the learning rate (). Raises ``UserError`` for a data set that DD-Ranking
    lacks, and for classes with different numbers of images.
    """
    mean, std = statistics(distilled)
    counts = distilled.classes.bincount(minlength=len(distilled.class_names)).tolist()
    if len(set(counts)) > 1:
        raise UserError(
            f"the set has {min(counts)} to {max(counts)} images per class, but DD-Ranking takes "
            "equally many; distil with distill.ipc, or choose another layout with --to"
        )
    order = distilled.classes.argsort(stable=True)
    pixels = distilled.normalisation.invert(distilled.pictures)
    least = torch.finfo(torch.float32).tiny  # the logit of a probability of 0 is finite
    torch.save(((pixels - mean) / std)[order].clone(), folder / "images.pt")
    torch.save(distilled.soft_labels.clamp(min=least).log()[order].clone(), folder / "labels.pt")
    torch.save(torch.tensor(distilled.learning_rate), folder / "lr.pt")


def statistics(distilled: DistilledSet) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3, 1, 1) with which DD-Ranking normalises the data set of ``distilled``.

    Raises ``UserError`` for a data set that it lacks.
    """
    dataset = distilled.provenance.get("dataset")
    classes, mean, std = BENCHMARKS.get(str(dataset), (0, (), ()))
    if len(distilled.class_names) != classes or distilled.images.shape[1] != len(mean):
        raise UserError(
            f"the set was made from {dataset} with {len(distilled.class_names)} classes and "
            f"{distilled.images.shape[1]} channels, but DD-Ranking's data sets are "
            f"{', '.join(BENCHMARKS)}; choose another layout with --to"
        )
    return torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
