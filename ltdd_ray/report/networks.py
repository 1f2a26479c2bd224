"""The trained networks beside the accuracy of the run's own: other architectures, and how even their classifiers are.

A series is what was trained on, by its name in ``evaluate.sets``. C classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltdd_ray.data.groups import class_groups
from ltdd_ray.report.charts import axis_limit, rank_chart

EXPERTS = {
    "representation": "Experts, representation stage",
    "classifier": "Experts, classifier stage",
}


def architectures(results: dict[str, Any]) -> dict[str, Any]:
    """Accuracies on the leading set: ``rows`` {architecture: {"all" or group: {"mean", "std"}}}, and the ``limit`` of their bars.

    Empty where no other architecture than the run's own was trained.
    """
    found = results.get("cross_architecture", {})
    rows = {label: {"all": one["accuracy"], **one["groups"]} for label, one in found.items()}
    return (
        {
            "rows": rows,
            "limit": axis_limit([row["all"]["mean"] + row["all"]["std"] for row in rows.values()]),
        }
        if rows
        else {}
    )


def classifier_norms(results: dict[str, Any], styles: Mapping[str, str]) -> dict[str, Any]:
    """The norms (C,) of the classifier's rows for the leading set, random selection and the experts, each relative to its mean.

    ``chart`` runs from head to tail; ``rows`` hold, by style, a ``name``, the mean of each group and ``ratio``, few over many.
    """
    shown = {
        key: results["sets"][key]
        for key in dict.fromkeys((results["set"], "random"))
        if key in results["sets"]
    }
    named = {styles[key]: (one["title"], one["classifier_norms"]) for key, one in shown.items()}
    named |= {
        f"expert {stage}": (EXPERTS[stage], norms)
        for stage, norms in results.get("expert_classifier_norms", {}).items()
    }
    groups = class_groups(results["class_counts"])
    order = [k for members in groups.values() for k in members]
    relative = {style: np.array(norms) / np.mean(norms) for style, (_, norms) in named.items()}
    rows = {
        style: {"name": named[style][0], **_by_group(values, groups)}
        for style, values in relative.items()
    }
    ratios = "; ".join(f"{row['name']} {row['ratio']:.2f}" for row in rows.values())
    label = f"Norms of the classifier's rows, head to tail, relative to their mean. Few-shot over many-shot classes: {ratios}"
    chart = rank_chart(
        {style: values[order].tolist() for style, values in relative.items()},
        ("head", "tail"),
        label,
    )
    return {"chart": chart, "rows": rows}


def _by_group(values: np.ndarray, groups: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    means = {name: float(values[list(members)].mean()) for name, members in groups.items()}
    return {"groups": means, "ratio": means["few"] / means["many"]}
