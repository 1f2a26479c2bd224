"""The provenance of a distilled set, which is stored in its file."""

from typing import Any

from ltdd_ray.common.hardware import describe_versions
from ltdd_ray.config import RunConfig, result_fingerprint
from ltdd_ray.data.budget import class_budget
from ltdd_ray.data.dataset import LongTailedDataset


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
        "seed": config.seed,
        "update": update,
        "config_hash": result_fingerprint(config),
        "versions": describe_versions(),
    }
