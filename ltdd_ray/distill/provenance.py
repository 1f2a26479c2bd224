"""Where a distilled set comes from, as it travels in the set's own file."""

from typing import Any

from ltdd_ray.common.hardware import describe_versions
from ltdd_ray.config import RunConfig, result_fingerprint
from ltdd_ray.data.budget import class_budget
from ltdd_ray.data.dataset import LongTailedDataset


def provenance(config: RunConfig, train: LongTailedDataset, update: int) -> dict[str, Any]:
    """Plain values that decide the set after ``update`` updates, or say what it was made from.

    Nothing of when and where: two runs with equal outcomes write equal files.
    """
    per_class, pictures = (
        class_budget(config.distill, train.class_counts.tolist()),
        config.distill.pictures_per_image,
    )
    return {
        "method": config.method,
        "dataset": config.data.name or config.data.source,
        "dataset_fingerprint": train.fingerprint,
        "imbalance_factor": float(train.class_counts.max() / train.class_counts.min()),
        "images_per_class": [n * pictures for n in per_class],
        "seed": config.seed,
        "update": update,
        "config_hash": result_fingerprint(config),
        "versions": describe_versions(),
    }
