"""DD-Ranking's scores (Li et al., arXiv 2505.13300): the gain of images apart from that of labels.

Accuracies are balanced ones, shares 0..1, of networks that were trained on

    full             all long-tailed images with hard labels (the set `full_ce`)
    distilled        the distilled set with its own labels
    distilled_hard   the same images with hard labels
    random           as many random real images, with labels of the same kind as the distilled set

    HLR = full - distilled_hard            hard label recovery: what is lost under hard labels
    IOR = distilled - random               improvement over random
    LRS = s(IOR / 2 - HLR / 2)             label-robust score
    ARS = s(IOR / 2 + IOR' / 2)            augmentation-robust score; IOR' without augmentation
    s(a) = (e^a - e^-1) / (e - e^-1)       maps -1..1 to 0..1

Deviations: DD-Ranking has balanced data. It takes the best of five learning rates and the best
epoch by test images; here the rates are those of the config, and the last epoch counts.
"""

from collections.abc import Mapping, Sequence
from math import e, exp
from typing import Any, Literal

from ltdd_ray.evaluate.full_data import FULL_DATA

SCORES = {
    "hlr": "hard label recovery (HLR)",
    "ior": "improvement over random (IOR)",
    "lrs": "label-robust score (LRS)",
    "ior_unaugmented": "improvement over random without augmentation",
    "ars": "augmentation-robust score (ARS)",
}

Runs = Mapping[str, Sequence[float]]  # by set: an accuracy 0..1 for each network


def normalised(advantage: float) -> float:
    """s(``advantage``): -1 becomes 0, and 1 becomes 1."""
    return (exp(advantage) - 1 / e) / (e - 1 / e)


def label_robust_score(hlr: float, ior: float) -> float:
    return normalised(ior / 2 - hlr / 2)


def augmentation_robust_score(ior: float, ior_unaugmented: float) -> float:
    return normalised(ior / 2 + ior_unaugmented / 2)


def robustness(runs: Runs, labels: Literal["soft", "hard"]) -> dict[str, list[float]]:
    """The values of :data:`SCORES` for each network, those alone whose sets are in ``runs``.

    ``labels`` are those of the distilled set. Networks of one number are compared with each other.
    """
    random = "random_soft" if labels == "soft" else "random"
    hard = "distilled_hard" if labels == "soft" else "distilled"
    found: dict[str, list[float]] = {}
    for name, more, less in (
        ("hlr", "full_ce", hard),
        ("ior", "distilled", random),
        ("ior_unaugmented", "distilled_unaugmented", f"{random}_unaugmented"),
    ):
        if more in runs and less in runs:
            found[name] = [a - b for a, b in zip(runs[more], runs[less], strict=True)]
    for name, score, terms in (
        ("lrs", label_robust_score, ("hlr", "ior")),
        ("ars", augmentation_robust_score, ("ior", "ior_unaugmented")),
    ):
        if all(term in found for term in terms):
            found[name] = [score(*values) for values in zip(*(found[term] for term in terms))]
    return {name: found[name] for name in SCORES if name in found}


def accuracy_runs(results: Mapping[str, Any]) -> Runs:
    """The accuracies of all sets of a results.json."""
    return {name: one["accuracy"]["runs"] for name, one in results["sets"].items()}


def compared_robustness(results: Sequence[Mapping[str, Any]]) -> list[dict[str, list[float]]]:
    """:func:`robustness` of several runs of one config, each of another method; empty for none.

    A run takes the sets that it lacks from the other runs: real images if they are shown at the
    same resolution, and training on all images.
    """
    found = []
    for own in results:
        shared: dict[str, Sequence[float]] = {}
        for other in results:
            alike = other["pictures_per_image"] == own["pictures_per_image"]
            shared |= {
                name: runs
                for name, runs in accuracy_runs(other).items()
                if name in FULL_DATA or (alike and name.startswith("random"))
            }
        distilled = own["sets"].get("distilled")
        found.append(
            robustness({**shared, **accuracy_runs(own)}, distilled["labels"]) if distilled else {}
        )
    return found
