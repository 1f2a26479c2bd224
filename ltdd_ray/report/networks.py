"""The sections on the evaluated networks: other architectures, and norms of the classifier's rows.

A series is a set that networks were trained on, by its name in ``evaluate.sets``. C classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltdd_ray.data.groups import class_groups
from ltdd_ray.report.charts import axis_limit, rank_chart, upper_end

EXPERTS = {
    "representation": "Experts, representation stage",
    "classifier": "Experts, classifier stage",
}


def architectures(results: dict[str, Any]) -> dict[str, Any]:
    """Accuracies of every architecture on the leading set, and the end of the bars' axis.

    ``rows`` is {architecture: {"all" or group: {"mean", "std"}}}. Empty where only the run's own
    architecture was trained.
    """
    found = results.get("cross_architecture", {})
    rows = {label: {"all": one["accuracy"], **one["groups"]} for label, one in found.items()}
    if not rows:
        return {}
    return {"rows": rows, "limit": axis_limit([upper_end(row["all"]) for row in rows.values()])}


def classifier_norms(results: dict[str, Any], styles: Mapping[str, str]) -> dict[str, Any]:
    """Norms (C,) of the classifier's rows, divided by their mean.

    For networks trained on the leading set and on random selection, and for the experts. ``chart``
    shows them from head to tail. ``rows`` has, by style, a ``name``, the mean of each group and,
    where classes are unequal enough to have both groups, the ``ratio`` of few over many.
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
    label = "Norms of the classifier's rows relative to their mean, from head to tail."
    compared = {"few", "many"} <= groups.keys()
    if compared:
        ratios = "; ".join(f"{row['name']} {row['ratio']:.2f}" for row in rows.values())
        label += f" Few-shot over many-shot classes: {ratios}"
    chart = rank_chart(
        {style: values[order].tolist() for style, values in relative.items()},
        ("head", "tail"),
        label,
    )
    return {"chart": chart, "rows": rows, "groups": list(groups), "compared": compared}


def _by_group(values: np.ndarray, groups: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    means = {name: float(values[list(members)].mean()) for name, members in groups.items()}
    ratio = means["few"] / means["many"] if {"few", "many"} <= means.keys() else None
    return {"groups": means, "ratio": ratio}
