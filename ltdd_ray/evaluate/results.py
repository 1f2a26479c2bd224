"""From single networks to the results of a run: means and deviations, per class and per group."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ltdd_ray.config import RunConfig, result_fingerprint
from ltdd_ray.data.budget import class_budget
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.groups import class_groups
from ltdd_ray.distill.checks import remedy
from ltdd_ray.evaluate.confusion import mean_confusion
from ltdd_ray.evaluate.robustness import SCORES, compared_robustness
from ltdd_ray.evaluate.sets import SETS
from ltdd_ray.evaluate.size import per_kilobyte, set_bytes
from ltdd_ray.evaluate.train import NetworkResult

MEASURES = {
    "accuracy": "balanced accuracy: the mean over classes that have test images",
    "accuracy_over_images": "share of all test images predicted correctly",
}


def summarise(
    config: RunConfig,
    train: LongTailedDataset,
    networks: Sequence[NetworkResult],
    run: dict[str, Any],
) -> dict[str, Any]:
    """The content of results.json: shares and probabilities 0..1, groups by class counts.

    ``accuracy`` is balanced accuracy, the mean over classes; ``accuracy_over_images`` the share of
    all images predicted correctly; ``measures`` says so in the file. A class without test images
    (``unmeasured_classes``) has null in ``per_class``, and a group of such classes is left out.
    Every ``std`` is a sample standard deviation over networks; None (null) for a single network.

    ``sets`` holds every set of ``evaluate.sets`` in that order. The first is the result of the run
    and is repeated at the top level; random selection is repeated under ``random_baseline``.
    ``cross_architecture`` holds the accuracies on the first set by architecture, if there are
    several, that of the run first. ``confusion`` holds [true class, predicted class, mean number of
    images over networks] for the first set, unless a network was measured by a version that did not
    count these pairs. ``robustness`` holds the scores of
    :mod:`ltdd_ray.evaluate.robustness` whose sets are there. ``run`` adds timings, peak memory,
    versions and the experts' norms.
    """
    own, *others = config.evaluation_models
    first = config.evaluate.sets[0]
    groups = class_groups(train.class_counts)
    of_set = {
        name: [n for n in networks if n.set_name == name and n.model == own]
        for name in config.evaluate.sets
    }
    sets = {name: _summary(config, train, found, groups) for name, found in of_set.items()}
    of_model = {
        label: [n for n in networks if n.set_name == first and n.model == label]
        for label in (own, *others)
    }
    pairs = mean_confusion([network.confusion for network in of_set[first]])
    results = {
        "name": config.name,
        "dataset": config.data.name or config.data.source,
        "imbalance_factor": int(train.class_counts.max()) / int(train.class_counts.min()),
        "ipc": config.distill.ipc,
        "pictures_per_image": config.distill.pictures_per_image,
        "images_per_class": list(class_budget(config.distill, train.class_counts.tolist())),
        "method": config.method,
        "engine": config.distill.engine,
        "model": config.model.model_dump(mode="json"),
        "split": config.evaluate.split,
        "class_names": list(train.class_names),
        "class_counts": train.class_counts.tolist(),
        "measures": MEASURES,
        "unmeasured_classes": [
            name
            for name, share in zip(train.class_names, sets[first]["per_class"]["mean"])
            if share is None
        ],
        "set": first,
        **sets[first],
        "sets": sets,
        **({"random_baseline": sets["random"]} if "random" in sets else {}),
        **(
            {
                "cross_architecture": {
                    label: _accuracies(found, groups) for label, found in of_model.items()
                }
            }
            if others
            else {}
        ),
        **({"confusion": pairs} if pairs else {}),
        "teacher_queried": False,  # labels are stored with the images
        "config_hash": result_fingerprint(config),
        **run,
    }
    (scores,) = compared_robustness([results])
    return {**results, **({"robustness": spread_scores(scores)} if scores else {})}


def spread_scores(scores: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Mean, deviation and single values of each score of a run."""
    return {name: {**_spread(values), "runs": list(values)} for name, values in scores.items()}


def _summary(
    config: RunConfig,
    train: LongTailedDataset,
    networks: Sequence[NetworkResult],
    groups: dict[str, tuple[int, ...]],
) -> dict[str, Any]:
    first = networks[0]
    kind = SETS[first.set_name]
    predicted, true = (
        np.array([getattr(n, key) for n in networks]) for key in ("confidence", "true_confidence")
    )  # (networks, C)
    return {
        "title": kind.title.format(method=config.method.upper()),
        "kind": kind.kind,
        "images": first.images,
        "labels": first.labels,
        "bytes": set_bytes(config, train, first.set_name, first.images, first.labels),
        **({} if first.tau is None else {"tau": first.tau}),
        **_accuracies(networks, groups),
        "confidence": {
            "predicted_class": _by_group(predicted, groups),
            "true_class": _by_group(true, groups),
        },
        "classifier_norms": np.mean([n.classifier_norms for n in networks], 0).tolist(),
    }


def _accuracies(
    networks: Sequence[NetworkResult], groups: dict[str, tuple[int, ...]]
) -> dict[str, Any]:
    overall, over_images = (
        [getattr(n, key) for n in networks] for key in ("accuracy", "accuracy_over_images")
    )
    per_class = np.array([n.per_class for n in networks])  # (networks, C)
    return {
        "accuracy": {**_spread(overall), "runs": overall},
        "accuracy_over_images": {**_spread(over_images), "runs": over_images},
        "per_class": {"mean": _plain(per_class.mean(0)), "std": _deviations(per_class)},
        "groups": _by_group(per_class, groups),
    }


def _by_group(
    per_class: np.ndarray, groups: dict[str, tuple[int, ...]]
) -> dict[str, dict[str, float | None]]:
    """Mean and deviation over networks of ``per_class`` (networks, C), averaged by group.

    NaN marks a class without test images; a group of such classes alone is left out.
    """
    measured = [bool(np.isfinite(column).any()) for column in per_class.T]
    members = {name: [k for k in classes if measured[k]] for name, classes in groups.items()}
    return {name: _spread(per_class[:, own].mean(1)) for name, own in members.items() if own}


def _spread(values: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    (deviation,) = _deviations(np.asarray(values)[:, None])
    return {"mean": float(np.mean(values)), "std": deviation}


def _deviations(values: np.ndarray) -> list[float | None]:
    """Sample standard deviation of each column of ``values`` (networks, columns).

    None, which is null in results.json, for a single network: one value has no deviation.
    """
    if len(values) == 1:
        return [None] * values.shape[1]
    return _plain(values.std(0, ddof=1))


def _plain(values: np.ndarray) -> list[float | None]:
    """A list with None, which is null in results.json, for NaN."""
    return [None if np.isnan(value) else float(value) for value in values]


def accuracy_text(mean: float, std: float | None) -> str:
    """``43.6 ± 1.2`` in percent; the mean alone where ``std`` is None, for a single network."""
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def results_table(results: dict[str, Any]) -> Table:
    """A row for each set: labels, accuracy in percent, bytes, and accuracy for each kilobyte.

    Balanced accuracy over all classes and per group, and the accuracy over images if it differs.
    Deviations of the others are in results.json and the report, so that a terminal of 80 columns
    shows numbers and words whole.
    """
    pictures = results["pictures_per_image"]
    size = (
        f"{sum(results['images_per_class'])} images"
        if results["ipc"] is None
        else f"IPC {results['ipc']}"
    )
    if pictures > 1:
        size += f" of {pictures} pictures each, a label for each picture"
    over_images = _over_images(results["sets"])
    table = _table(
        f"{results['name']}: balanced accuracy in % on the {results['split']} images, {size}",
        ["", "labels"],
        results["groups"],
        over_images,
    )
    sized = all("bytes" in one for one in results["sets"].values())
    if sized:  # results of older versions are not
        for column in ("kB with\nlabels", "%\nper kB"):
            table.add_column(column, justify="right", no_wrap=True)
    notes = []
    for one in results["sets"].values():
        bytes_cells = size_cells(one["accuracy"]["mean"], one["bytes"]) if sized else []
        overall, *others = _cells(one, over_images)
        means = (cell.partition(" ")[0] for cell in others)
        table.add_row(one["title"], one["labels"], overall, *means, *bytes_cells)
        if "tau" in one:
            notes.append(f"{one['title']}: logits adjusted with tau {one['tau']:.2f}")
    if scores := results.get("robustness"):
        notes.append(describe_robustness(scores))
    if warning := start_warning(results):
        notes.append(warning)
    if missing := results.get("unmeasured_classes"):
        notes.append(f"not measured, as they have no {results['split']} images: {some(missing)}")
    table.caption = "\n".join(notes) or None
    return table


def size_cells(accuracy: float, count: int) -> list[str]:
    """``count`` bytes in kB, and the points of ``accuracy`` for each of them."""
    return [f"{count / 1000:,.1f}", f"{per_kilobyte(accuracy, count):.3g}"]


def describe_robustness(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """A sentence with each score in percent."""
    words = (
        f"{SCORES[name]} {accuracy_text(one['mean'], one['std'])}" for name, one in scores.items()
    )
    return f"DD-Ranking in %: {', '.join(words)}"


def some(names: Sequence[str]) -> str:
    """The first of ``names`` in a sentence, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def start_warning(results: dict[str, Any]) -> str | None:
    """A sentence where the distilled set is worse than the initial one that it started from."""
    sets = results["sets"]
    if not {"distilled", "initial"} <= sets.keys():
        return None
    distilled, initial = (sets[name]["accuracy"]["mean"] for name in ("distilled", "initial"))
    if distilled >= initial:
        return None
    below = 100 * (initial - distilled)
    advice = remedy(results.get("engine"))  # results of older versions lack it
    return f"{sets['distilled']['title']} ends {below:.1f} points below its own start; {advice}"


def architectures_table(results: dict[str, Any]) -> Table:
    """A row for each architecture: its accuracy in percent with the first set."""
    rows = results["cross_architecture"]
    over_images = _over_images(rows)
    table = _table(
        f"{results['title']}: balanced accuracy in % by architecture",
        [""],
        results["groups"],
        over_images,
    )
    for label, one in rows.items():
        table.add_row(label, *_cells(one, over_images))
    return table


def _table(title: str, names: Iterable[str], groups: Iterable[str], over_images: bool) -> Table:
    """A table in which numbers stay whole in a terminal of 80 columns, while ``names`` may wrap."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    for column in names:
        table.add_column(column, overflow="fold")
    for column in ("all", *groups, *(["over\nimages"] if over_images else [])):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(one: Mapping[str, Any], over_images: bool) -> list[str]:
    cells = [one["accuracy"], *one["groups"].values()]
    if over_images:
        cells.append(one["accuracy_over_images"])
    return [accuracy_text(cell["mean"], cell["std"]) for cell in cells]


def _over_images(rows: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether accuracy over images reads otherwise than balanced accuracy in some row.

    They are equal where all classes have as many test images. Results of older versions lack it.
    """
    pairs = [
        (one["accuracy"], one["accuracy_over_images"])
        for one in rows.values()
        if "accuracy_over_images" in one
    ]
    return any(
        accuracy_text(a["mean"], a["std"]) != accuracy_text(b["mean"], b["std"]) for a, b in pairs
    )
