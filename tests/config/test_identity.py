"""Fingerprints stay as they are, so that a run finds the finished work of an earlier version."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ModelConfig, RunConfig, decides, result_fingerprint, set_fingerprint
from ltdd_ray.config.identity import (
    ADDED,
    network_fingerprint,
    store_fingerprint,
    trajectory_fingerprints,
    trial_fingerprint,
)
from ltdd_ray.config.loading import load_config
from ltdd_ray.evaluate.plan import plan_networks
from ltdd_ray.experts.plan import trajectory_tasks
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.workflows.search.trial import trial_identity

CPU = Path(__file__).parents[2] / "configs" / "cifar10_lt" / "cpu.yaml"
Tiny = Callable[..., RunConfig]
DATA: Any = SimpleNamespace(
    train=SimpleNamespace(fingerprint="training images"),
    evaluation=SimpleNamespace(fingerprint="test images"),
)


@pytest.fixture
def shipped() -> RunConfig:
    return load_config(CPU)


def test_the_fingerprints_of_a_shipped_config(shipped: RunConfig, tmp_path: Path) -> None:
    """A change here loses the work of runs in progress, so it needs a reason."""
    distilled = tmp_path / "distilled"
    distilled.mkdir()
    (distilled / "distilled.safetensors").write_bytes(b"a distilled set")
    records = plan_networks(shipped, DATA, tmp_path)
    assert {
        "trajectories": [task.identity for task in trajectory_tasks(shipped, DATA.train, 3)],
        "store": store_fingerprint(shipped),
        "run": result_fingerprint(shipped),
        "network": {record.identity for record in records},
        "trial": trial_identity(shipped, DATA, {"distill.lambda_rep": 2.0}),
    } == {
        "trajectories": ["41a307787b2ffa51", "339cf79d9dda0387"],
        "store": "d11435095f6784ff",
        "run": "c5b199979b10c9e4",
        "network": {"c3f7402b4abc3a5c"},
        "trial": "bd133d59466299be",
    }


class Tree:
    """Stands in for a config, so that a key can hold a value the config would refuse."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree

    def model_dump(self, mode: str) -> dict[str, Any]:
        return self._tree


def paths(tree: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Where the values of a nested mapping lie."""
    for name, value in tree.items():
        below = paths(value) if isinstance(value, dict) else [()]
        yield from ((name, *path) for path in below)


def altered(
    tree: dict[str, Any], path: tuple[str, ...], value: Any = "another value"
) -> dict[str, Any]:
    """A copy of ``tree`` with ``value``, valid or not, at ``path``."""
    name, *rest = path
    return {**tree, name: altered(tree[name], tuple(rest), value) if rest else value}


def without(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """A copy of ``tree`` that lacks ``path``. Raises ``KeyError`` where it is not there."""
    name, *rest = path
    if rest:
        return {**tree, name: without(tree[name], tuple(rest))}
    copy = dict(tree)
    del copy[name]
    return copy


TREE = load_config(CPU).model_dump(mode="json")


@pytest.mark.parametrize("path", list(paths(TREE)), ids=".".join)
def test_a_key_enters_the_fingerprints_of_what_it_decides(path: tuple[str, ...]) -> None:
    first: Any = Tree(TREE)
    other: Any = Tree(altered(TREE, path))
    outcome = decides(".".join(path))
    assert outcome is not None
    assert (result_fingerprint(other) != result_fingerprint(first)) == (outcome != "nothing")
    decided_before = outcome in ("images", "trajectories", "set")
    assert (set_fingerprint(other) != set_fingerprint(first)) == decided_before
    networks = [network_fingerprint(one, ModelConfig(), "a", "b", "c") for one in (first, other)]
    assert (networks[0] != networks[1]) == (decided_before or outcome == "networks")
    in_store = store_fingerprint(other) != store_fingerprint(first)
    assert in_store == (outcome == "trajectories")
    stages = [trajectory_fingerprints(config, "images", 3) for config in (first, other)]
    representation, classifier = (a != b for a, b in zip(*stages))
    assert classifier == in_store
    assert representation == (in_store and path[:2] != ("experts", "classifier"))


@pytest.mark.parametrize("key", ADDED)
def test_an_added_key_at_its_first_value_is_as_if_it_were_not_there(key: str) -> None:
    path = tuple(key.split("."))
    first: Any = Tree(altered(TREE, path, ADDED[key]))
    older: Any = Tree(without(TREE, path))
    assert result_fingerprint(first) == result_fingerprint(older)
    assert store_fingerprint(first) == store_fingerprint(older)


def test_a_key_of_no_section_is_not_taken_for_harmless(tiny: Tiny, tmp_path: Path) -> None:
    assert decides("compute.threads") == "nothing" and decides("experts.storehouse") != "nothing"
    assert decides("outputs") is None and decides("gone.with.it") is None
    folder = RunFolder.open(tiny(tmp_path))
    with (folder.path / "config.yaml").open("a") as file:
        file.write("gone: 1\n")
    with pytest.raises(UserError, match=r"another config: gone \(1 there, None here\)"):
        RunFolder.open(tiny(tmp_path))


def test_trials_are_told_apart_by_how_they_are_scored(shipped: RunConfig) -> None:
    def identity(score: str = "margins", **search: Any) -> str:
        changed = shipped.search.model_copy(update=search)
        config = shipped.model_copy(update={"search": changed})
        return trial_fingerprint(config, "images", "held-out images", score)

    assert identity(trials=3, algorithm="optuna", max_concurrent=9) == identity()
    others = [identity(networks=9), identity(epochs=9), identity(report_every=9)]
    others += [identity(trend_weight=9.0), identity(score="accuracy")]
    assert len({identity(), *others}) == 6
