"""The section on coverage: images of the set among real ones, in two components of features."""

from pathlib import Path
from typing import Any

import numpy as np

from ltdd_ray.data.groups import head_to_tail
from ltdd_ray.evaluate.feature_map import read_feature_map
from ltdd_ray.report.scatter import on_chart, point_chart

MAPS = 12  # of single classes


def coverage(results: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Maps of all classes together (``all``) and of single ones (``classes``), head to tail.

    ``explained`` are the shares 0..1 of the variance of the real images along both axes. Empty for
    runs without a feature map (:mod:`ltdd_ray.evaluate.feature_map`).
    """
    found = read_feature_map(folder, results.get("identity"))
    if not found:
        return {}
    # (points, 3): class, x, y.
    real, own = (np.array(found[key], float).reshape(-1, 3) for key in ("real", "set"))
    every = np.concatenate([real, own])[:, 1:]
    names, counts = results["class_names"], results["class_counts"]
    real[:, 1:], own[:, 1:] = on_chart(real[:, 1:], every), on_chart(own[:, 1:], every)

    def of_class(k: int) -> dict[str, Any]:
        layers = {
            "behind": real[real[:, 0] != k, 1:],
            "real": real[real[:, 0] == k, 1:],
            "own": own[own[:, 0] == k, 1:],
        }
        label = f"{names[k]}: {len(layers['real'])} real images, {len(layers['own'])} of the set"
        return {"name": names[k], "count": counts[k], "chart": point_chart(layers, label)}

    return {
        "explained": found["explained"],
        "all": point_chart(
            {"real": real[:, 1:], "own": own[:, 1:]},
            f"{len(real)} real images and {len(own)} of the set",
        ),
        "classes": [of_class(k) for k in head_to_tail(counts, MAPS)],
        "partial": len(real) < sum(counts),
    }
