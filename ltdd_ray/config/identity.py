"""Which config keys decide which outcome: the one list behind every fingerprint of a run.

A fingerprint is a hash of the values that decide an outcome. Work is found again, shared or refused
by comparing fingerprints, so a key in the wrong place either loses work or mixes two experiments.
"""

import hashlib
import json
from collections.abc import Collection
from typing import Any, Literal

from pydantic import BaseModel

from ltdd_ray.common.redact import mask_tree
from ltdd_ray.config.model import ModelConfig
from ltdd_ray.config.tree import RunConfig

Outcome = Literal["images", "trajectories", "set", "networks", "results", "nothing"]
# In order: each follows from those before it.
OUTCOMES = ("images", "trajectories", "set", "networks", "results")

# The first outcome that a key decides; later outcomes follow from earlier ones. A key that is not
# listed goes with its section.
DECIDES: dict[str, Outcome] = {
    "name": "nothing",
    "output": "nothing",
    "method": "set",  # recorded in the set's file
    "seed": "trajectories",  # and splits of the data, which the fingerprint of the images shows
    "data": "images",  # images and labels have a fingerprint of their own
    "data.name": "set",  # recorded in the set's file
    "data.unlabelled": "set",  # the estimated class counts enter the matching loss alone
    "data.class_counts": "set",
    "data.normalisation": "trajectories",
    "model": "trajectories",
    "augmentation": "trajectories",
    "experts": "trajectories",
    "experts.count": "set",  # each expert is trained independently of the others
    "experts.store": "nothing",
    "distill": "set",
    "evaluate": "networks",
    "evaluate.lr": "set",  # the engines dc, dm and idm learn no rate, their sets record this one
    "evaluate.sets": "results",  # each network is trained independently of the others
    "evaluate.networks": "results",
    "evaluate.models": "results",
    "plugins": "nothing",
    "search": "nothing",
    "tracking": "nothing",
    "compute": "nothing",
}
# Keys added later, each with the value that stands for what versions without it did. With this
# value a key enters no fingerprint, so finished work of those versions is still found. The value
# stays as it is where the key's default changes.
ADDED: dict[str, Any] = {
    "distill.bits": None,
    "distill.distribution.layers": "last",
    "distill.distribution.distance": "mean",
    "distill.distribution.frequencies": 256,
    "distill.distribution.alpha": 0.5,
    "distill.distribution.real_images": "random",
    "distill.distribution.choose_every": 10,
    "distill.distribution.gradient.updates_per_network": 10,
    "distill.distribution.gradient.epochs": 10,
    "distill.distribution.gradient.batch_size": 256,
    "distill.distribution.gradient.lr": 0.01,
    "distill.distribution.queue.train_on": "pictures",
    "distill.distribution.recovery.recalibrate": True,
    "distill.distribution.recovery.crops": 5,
    "distill.distribution.recovery.statistics_weight": 0.1,
    "distill.distribution.recovery.class_statistics_weight": 0.1,
    "evaluate.ce_weight": 1.0,
    "evaluate.mse_weight": 0.0,
    "experts.norm": None,
    "experts.representation.reweighting": 0.8,
}
# Keys of `search` that decide what a trial reports. The others decide which trials there are.
TRIAL_KEYS = ("networks", "epochs", "report_every", "trend_weight")


def decides(key: str) -> Outcome | None:
    """The first outcome that a dotted ``key`` decides; None for a key of no section of the tree."""
    while key not in DECIDES:
        key, dot, _ = key.rpartition(".")
        if not dot:
            return None
    return DECIDES[key]


def fingerprint(*parts: Any) -> str:
    """16 hex digits, equal exactly when all ``parts`` are: config sections, strings, numbers."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def result_fingerprint(config: RunConfig) -> str:
    """Identity of a run's outcome. Addresses are masked, so new credentials change nothing."""
    return fingerprint(_up_to(config, "results"))


def set_fingerprint(config: RunConfig) -> str:
    """Identity of a run's distilled set. Keys that only decide the evaluation do not enter."""
    return fingerprint(_up_to(config, "set"))


def store_fingerprint(config: RunConfig) -> str:
    """Equal for all runs that may share one trajectory store, given equal training images."""
    return fingerprint(*_trajectory_values(config).values())


def trajectory_fingerprints(config: RunConfig, images: str, expert: int) -> tuple[str, str]:
    """Identities of the representation and the classifier trajectory of one expert.

    ``images`` is the fingerprint of the training images. Settings of the classifier stage do not
    enter the first, so changing them leaves the representation trajectories valid.
    """
    values = _trajectory_values(config)
    experts = values.pop("experts")
    representation, classifier = experts.pop("representation"), experts.pop("classifier")
    parts = (*values.values(), expert, list(experts.values()))
    first = fingerprint("representation", images, *parts, representation)
    return first, fingerprint("classifier", first, classifier)


def network_fingerprint(
    config: RunConfig, model: ModelConfig, images: str, evaluated_on: str, distilled: str
) -> str:
    """Identity of the evaluation networks of one architecture. The run's other ones do not enter.

    ``images`` and ``evaluated_on`` are the fingerprints of training and evaluation images,
    ``distilled`` is the SHA-256 of the distilled set's file, "" if nothing was distilled.
    """
    return fingerprint(_up_to(config, "networks"), model, images, evaluated_on, distilled)


def trial_fingerprint(config: RunConfig, images: str, evaluated_on: str, score: str) -> str:
    """Identity of a search trial. ``config`` holds its values, ``score`` names the scoring."""
    search = config.search.model_dump(mode="json", include=set(TRIAL_KEYS))
    return fingerprint(result_fingerprint(config), images, evaluated_on, search, score)


def _trajectory_values(config: RunConfig) -> dict[str, Any]:
    """Values that decide a trajectory given its images, by section, in the order of the hash."""
    tree = _only(config.model_dump(mode="json"), ("trajectories",))
    order = ("data", "model", "augmentation", "seed", "experts")
    values = {section: tree.pop(section) for section in order}
    assert not tree, f"{sorted(tree)} decide trajectories but enter no fingerprint"
    return values | {"data": values["data"]["normalisation"]}


def _up_to(config: RunConfig, last: Outcome) -> dict[str, Any]:
    """The values that decide an outcome up to ``last``, without the keys of addresses."""
    outcomes = OUTCOMES[: OUTCOMES.index(last) + 1]
    return mask_tree(_only(config.model_dump(mode="json"), outcomes))


def _only(tree: dict[str, Any], outcomes: Collection[Outcome], prefix: str = "") -> dict[str, Any]:
    """The values of ``tree`` that decide one of ``outcomes``, without the sections left empty."""
    kept = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            value = _only(value, outcomes, f"{prefix}{key}.")
            if value:
                kept[key] = value
        elif decides(prefix + key) in outcomes and not _as_before(prefix + key, value):
            kept[key] = value
    return kept


def _as_before(key: str, value: Any) -> bool:
    """Whether ``value`` stands for what versions without ``key`` did."""
    return key in ADDED and value == ADDED[key]
