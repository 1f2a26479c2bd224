"""Short runs of every engine and method, as numbers; no Ray, one thread, seconds each.

A recording is a flat mapping of names to numbers. A tensor enters as its signature: its norm and
its inner product with a fixed vector, so that a permutation shows as well.

The runs use the overlays in ``ltdd_ray/methods``, so a change in an overlay or in a default shows.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import parse_config
from ltdd_ray.config.nested import merge
from ltdd_ray.data.load import load_data
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.distribution.loop import match_distributions
from ltdd_ray.distill.trajectory.loop import distill
from ltdd_ray.evaluate.train import evaluate_network
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import expectation
from ltdd_ray.methods import method_config
from ltdd_ray.store import TrajectoryStore
from ltdd_ray.workflows.search.evaluator import search_data, search_evaluator
from ltdd_ray.workflows.search.space import draw

Numbers = dict[str, float]

BASE: dict[str, Any] = {
    "name": "recorded",
    "seed": 5,
    "data": {
        "source": "digits",
        "test_fraction": 0.25,
        "imbalance_factor": 100,
        "normalisation": "standard",
    },
    "model": {"width": 4, "depth": 2},
    "augmentation": "color_crop_cutout_flip_scale_rotate",
    "experts": {
        "count": 2,
        "representation": {
            "epochs": 5,
            "batch_size": 48,
            "lr": 0.1,
            "momentum": 0.5,
            "weight_decay": 0.01,
            "sharpness": "none",
        },
        "classifier": {
            "epochs": 2,
            "batch_size": 64,
            "lr": 0.05,
            "momentum": 0.3,
            "weight_decay": 0.02,
            "max_norm": None,
        },
    },
    "distill": {
        "ipc": 3,
        "updates": 4,
        "segments_per_update": 2,
        "lambda_rep": 0.7,
        "lambda_cls": 0.3,
        "representation": {
            "syn_steps": 3,
            "batch_size": 12,
            "expert_epochs": 1,
            "start_epochs": {"min": 0, "initial_max": 1, "max": 3, "growth": 3},
            "dam": {"class_weights": "frequency", "lambda_prior": 0.8},
        },
        "classifier": {"syn_steps": 3, "batch_size": 12, "expert_epochs": 1},
        "lr_image": 30.0,
        "lr_label": 20.0,
        "syn_lr": 0.05,
        "distribution": {
            "updates": 5,
            "real_batch": 6,
            "lr_image": 0.5,
            "queue": {"size": 2, "enter_every": 2, "trained": 1, "steps": 2, "batch_size": 20},
        },
    },
    "evaluate": {
        "networks": 1,
        "epochs": 4,
        "batch_size": 20,
        "lr": 0.05,
        "full_data": {"epochs": 2, "batch_size": 48, "lr": 0.05, "momentum": 0.5},
    },
}


def signature(name: str, tensor: Tensor | np.ndarray) -> Numbers:
    """``name/norm`` and ``name/dot`` of a tensor, in float64."""
    flat = torch.as_tensor(tensor).detach().double().flatten()
    fixed = torch.arange(len(flat), dtype=torch.float64).mul(0.7).add(0.3).cos()
    return {f"{name}/norm": float(flat.norm()), f"{name}/dot": float(flat @ fixed)}


def settings(folder: str | Path, **sections: Any) -> RunConfig:
    """``BASE`` with ``sections`` laid over it, writing into ``folder``."""
    return parse_config(merge(BASE, {"output": str(folder), **sections}), "recorded")


@cache
def _shared() -> tuple[TemporaryDirectory, RunConfig, PreparedData]:
    """The experts that most recordings share, trained once per process."""
    folder = TemporaryDirectory()
    config = settings(folder.name)
    data = prepare_data(config)
    train(config, data)
    return folder, config, data


def train(config: RunConfig, data: PreparedData) -> None:
    for expert in range(config.experts.count):
        run_expert(config, data, expert, lambda report: None)


def trajectories(config: RunConfig, data: PreparedData) -> Numbers:
    """The thetas of every epoch, and the metrics of the last, of each expert and stage."""
    store = TrajectoryStore.open(config.store_uri, expect=expectation(config, data.train))
    numbers: Numbers = {}
    for expert in range(config.experts.count):
        for stage in ("representation", "classifier"):
            for epoch in store.epochs(expert, stage):
                row = store.segment(expert, stage, epoch, epoch)
                name = f"expert{expert}/{stage}/{epoch}"
                numbers |= signature(f"{name}/classifier", row.start_classifier)
                if stage == "representation":
                    numbers |= signature(f"{name}/backbone", row.start_backbone)
    return numbers


def described(name: str, found: DistilledSet) -> Numbers:
    """Images, labels and rate of a set."""
    return {
        **signature(f"{name}/images", found.pictures),
        **signature(f"{name}/soft_labels", found.soft_labels),
        f"{name}/learning_rate": found.learning_rate,
    }


def distilled(config: RunConfig, data: PreparedData) -> tuple[Numbers, DistilledSet, DistilledSet]:
    """The metrics of every update; the set before the first and after the last."""
    numbers: Numbers = {}
    initial: list[DistilledSet] = []

    def on_update(report: Any, synthetic: Any) -> None:
        for name, value in report.metrics.items():
            numbers[f"update{report.update}/{name}"] = value

    engine = distill if config.distill.engine == "matching" else match_distributions
    final = engine(
        config,
        data,
        on_update=on_update,
        on_checkpoint=lambda write, update: None,
        on_initial=lambda found, sentences: initial.append(found),
    )
    numbers |= described("initial", initial[0]) | described("final", final)
    return numbers, initial[0], final


def evaluated(config: RunConfig, data: PreparedData, names: Sequence[str]) -> Numbers:
    """A network on each of the sets ``names``: what it predicts and the norms of its classifier."""
    numbers: Numbers = {}
    for name in names:
        result = evaluate_network(config, data, name, config.model.label, 0, lambda report: None)
        numbers[f"{name}/accuracy"] = result.accuracy
        numbers[f"{name}/tau"] = 0.0 if result.tau is None else result.tau
        numbers |= signature(f"{name}/per_class", np.array(result.per_class))
        numbers |= signature(f"{name}/confidence", np.array(result.confidence))
        numbers |= signature(f"{name}/true_confidence", np.array(result.true_confidence))
        numbers |= signature(f"{name}/classifier_norms", np.array(result.classifier_norms))
    return numbers


def record_data() -> Numbers:
    """Splits, profile and the three normalisations."""
    numbers: Numbers = {}
    for kind in ("standard", "zca", "zca_raw"):
        forgetful = {"validation_fraction": 0.2, "labelled_fraction": 0.5, "normalisation": kind}
        config = settings(
            "unused", data={**forgetful, "imbalance_factor": 10, "class_counts": "estimate"}
        )
        splits = load_data(config.data, config.seed)
        data = prepare_data(config)
        assert splits.validation is not None
        parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        for name, part in parts.items():
            numbers |= signature(f"{kind}/{name}/pixels", part.images)
            numbers |= signature(f"{kind}/{name}/counts", part.class_counts)
        seen = data.normalisation.apply(torch.tensor(data.train.images))
        numbers |= signature(f"{kind}/seen", seen)
        numbers |= signature(f"{kind}/pixels_back", data.normalisation.invert(seen))
        numbers |= signature(f"{kind}/prior", data.prior)
    return numbers


def record_experts(
    sharpness: str, max_norm: float | None, stage: dict[str, Any] | None = None, **model: Any
) -> Numbers:
    with TemporaryDirectory() as folder:
        first = {"sharpness": sharpness, "rho": 0.05, "alpha": 0.4, **(stage or {})}
        stages = {"representation": first}
        config = settings(
            folder,
            model={"width": 4, "depth": 2, **model},
            experts={"count": 1, **stages, "classifier": {"max_norm": max_norm}},
        )
        data = prepare_data(config)
        train(config, data)
        return trajectories(config, data)


def record_method(method: str, **distill_settings: Any) -> Numbers:
    """The distillation of ``method`` on the shared experts."""
    _, config, data = _shared()
    changed = config.model_dump(mode="json")
    changed = parse_config(merge(changed, {"distill": distill_settings}), "recorded")
    return distilled(method_config(changed, method), data)[0]


def record_rldd() -> Numbers:
    """RLDD on experts of its own, whose batch norm the images recover."""
    _, config, data = _shared()
    with TemporaryDirectory() as folder:
        moved = merge(config.model_dump(mode="json"), {"output": folder})
        run = method_config(parse_config(moved, "recorded"), "rldd")
        train(run, data)
        return distilled(run, data)[0]


def record_selection(*methods: str) -> Numbers:
    """A network on the real images of each of ``methods``, chosen with the shared experts."""
    _, config, data = _shared()
    numbers: Numbers = {}
    for method in methods:
        run = method_config(config, method)
        tree = merge(run.model_dump(mode="json"), {"experts": {"store": config.store_uri}})
        found = evaluated(parse_config(tree, "recorded"), data, run.evaluate.sets)
        numbers |= {f"{method}/{name.partition('/')[2]}": value for name, value in found.items()}
    return numbers


def record_evaluation(method: str, names: tuple[str, ...], **model: Any) -> Numbers:
    """The sets ``names`` after the distillation of ``method``, and a network on each."""
    _, config, data = _shared()
    with TemporaryDirectory() as folder:
        moved = method_config(config, method).model_dump(mode="json")
        moved = merge(moved, {"output": folder, "experts": {"store": config.store_uri}})
        run = parse_config(merge(moved, {"evaluate": {"sets": list(names)}}), "recorded")
        _, initial, final = distilled(run, data)
        final.save(run.folder / "distilled")
        initial.save(run.folder / "distilled", "initial")
        if model:
            run = parse_config(merge(run.model_dump(mode="json"), {"model": model}), "recorded")
        return evaluated(run, data, names)


def record_full_data() -> Numbers:
    """A network with batch norm on all images, more than its last pass takes at once."""
    config = settings(
        "unused", data={"imbalance_factor": 2}, model={"norm": "batch", "width": 4, "depth": 2}
    )
    return evaluated(config, prepare_data(config), ("full_ce",))


def record_search() -> Numbers:
    """The split, the scores and the draws of the hyperparameter search."""
    _, config, _ = _shared()
    run = parse_config(
        merge(
            config.model_dump(mode="json"),
            {"search": {"networks": 1, "epochs": 2, "validation_fraction": 0.3}},
        ),
        "recorded",
    )
    data = search_data(run)
    _, _, found = distilled(method_config(config, "ltdd"), _shared()[2])
    score = search_evaluator(run, data).score(found)
    numbers = signature("held_out", data.evaluation.images)
    numbers |= {"score": score.accuracy, "standard_error": score.standard_error}
    for trial in range(2):
        for key, value in draw(run.search, run.seed, trial).items():
            numbers[f"trial{trial}/{key}"] = float(value)
    return numbers


TGDD = {"lr_image": 0.02, "snapshots": {"min": 1, "max": 3}}
CHARACTERISTIC = {"distance": "characteristic", "frequencies": 16}
GRADIENT = {"updates_per_network": 2, "epochs": 1, "batch_size": 20}
SOFT_SETS = ("distilled", "distilled_hard", "distilled_calibrated", "distilled_8bit", "initial")
REAL_SETS = (
    *("random", "random_soft", "k_center", "k_center_soft"),
    *("full_ce", "full_balanced_softmax", "full_decoupled"),
)

RECORDINGS: dict[str, Callable[[], Numbers]] = {
    "data": record_data,
    "experts_sgd": lambda: trajectories(*_shared()[1:]),
    "experts_sam": lambda: record_experts("sam", None),
    "experts_gsam_max_norm": lambda: record_experts("gsam", 0.1),
    "experts_batch_norm": lambda: record_experts("none", None, norm="batch"),
    "experts_debiased": lambda: record_experts(
        "none", None, {"criterion": "balanced_softmax", "schedule": "cosine"}
    ),
    "ltdd": lambda: record_method("ltdd"),
    "ltdd_first_order": lambda: record_method("ltdd", hypergradient="first_order"),
    "ltdd_unrolled": lambda: record_method("ltdd", hypergradient="unrolled"),
    "ltdd_micro_batch": lambda: record_method("ltdd", micro_batch=5),
    "ltdd_mean_one": lambda: record_method(
        "ltdd", representation={"dam": {"class_weights": "mean_one"}}
    ),
    "ltdd_short_steps": lambda: record_method(
        "ltdd", largest_image_step=0.003, largest_rate_step=0.0001
    ),
    "ltdd_mosaic": lambda: record_method("ltdd_mosaic"),
    "ltdd_repeats": lambda: record_method("ltdd", ipc=9),
    "ed": lambda: record_method("ed"),
    "dam": lambda: record_method("dam"),
    "datm": lambda: record_method("datm"),
    "mtt": lambda: record_method("mtt"),
    "dm": lambda: record_method("dm"),
    "idm": lambda: record_method("idm"),
    "tgdd": lambda: record_method("tgdd", distribution=TGDD),
    "tgdd_mosaic": lambda: record_method("tgdd_mosaic", distribution=TGDD),
    "dm_characteristic": lambda: record_method("dm", distribution=CHARACTERISTIC),
    "idm_characteristic": lambda: record_method("idm", distribution=CHARACTERISTIC),
    "tgdd_characteristic": lambda: record_method("tgdd", distribution=TGDD | CHARACTERISTIC),
    "dc": lambda: record_method("dc", distribution={"gradient": GRADIENT}),
    "dream": lambda: record_method("dream", distribution={"gradient": GRADIENT, "choose_every": 2}),
    "rldd": record_rldd,
    "selection": lambda: record_selection(
        *("graph_cut", "random_mosaic", "k_center_mosaic"),
        *("random_soft_mosaic", "k_center_soft_mosaic"),
    ),
    "evaluation_ltdd": lambda: record_evaluation("ltdd", SOFT_SETS + REAL_SETS),
    "evaluation_idm": lambda: record_evaluation("idm", ("distilled", "initial")),
    "evaluation_batch_norm": lambda: record_evaluation(
        "mtt", ("distilled", "full_ce"), norm="batch"
    ),
    "full_data_batch_norm": record_full_data,
    "search": record_search,
}
