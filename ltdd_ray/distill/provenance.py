"""The set that an engine has reached, and its provenance, which is stored in its file."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.hardware import describe_versions
from ltdd_ray.config import RunConfig, result_fingerprint, set_fingerprint
from ltdd_ray.data.budget import class_budget
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.artifact import DistilledSet


def provenance(config: RunConfig, train: LongTailedDataset, update: int) -> dict[str, Any]:
    """What the set was made from and by, after ``update`` updates, as plain values.

    Neither time nor place is part of it: two runs with equal outcomes write equal files.
    """
    return {
        "method": config.method,
        "dataset": config.data.name or config.data.source,
        "dataset_fingerprint": train.fingerprint,
        "imbalance_factor": float(train.class_counts.max() / train.class_counts.min()),
        "images_per_class": list(class_budget(config.distill, train.class_counts.tolist())),
        "pictures_per_image": config.distill.pictures_per_image,
        **({"bits": config.distill.bits} if config.distill.bits else {}),
        "seed": config.seed,
        "update": update,
        "config_hash": set_fingerprint(config),
        "versions": describe_versions(),
    }


def reached_set(
    config: RunConfig,
    data: PreparedData,
    update: int,
    *,
    images: Tensor,
    soft_labels: Tensor,
    classes: Tensor,
    learning_rate: float,
) -> DistilledSet:
    """The set as it is after ``update`` updates, on the CPU, in 8 bits if `distill.bits` says so.

    ``images`` (M, K, H, W), ``soft_labels`` (P, C) and ``classes`` (P,) are those of
    :class:`~ltdd_ray.distill.artifact.DistilledSet`, on any device.
    """
    exact = DistilledSet(
        images=images.detach().cpu().clone(),
        soft_labels=soft_labels.detach().cpu(),
        classes=classes.cpu(),
        learning_rate=learning_rate,
        normalisation=data.normalisation.to(torch.device("cpu")),
        class_names=data.train.class_names,
        augmentation=config.augmentation,
        pictures_per_side=config.distill.pictures_per_side,
        class_counts=tuple(data.train.class_counts.tolist()),
        provenance=provenance(config, data.train, update),
    )
    return exact.in_8_bits() if config.distill.bits else exact


def refuse_other_inputs(
    found: DistilledSet, file: Path, config: RunConfig, train: LongTailedDataset
) -> None:
    """Raise ``UserError`` where ``found``, read from ``file``, was made from other inputs.

    A set that somebody made elsewhere has no provenance; its classes are compared alone.
    """
    inputs = {
        "other training images": ("dataset_fingerprint", [train.fingerprint]),
        # Older versions recorded the hash of a whole run.
        "another config": ("config_hash", [set_fingerprint(config), result_fingerprint(config)]),
    }
    changed = [
        f"{what} ({key} {found.provenance[key]}, now {now[0]})"
        for what, (key, now) in inputs.items()
        if found.provenance.get(key, now[0]) not in now
    ]
    if found.class_names != train.class_names:
        changed.append("other classes")
    if changed:
        raise UserError(
            f"{file}: was made from {' and '.join(changed)}; restore what it was made from, keep "
            f"both with --set name=..., or delete {file.parent} to distil anew"
        )
