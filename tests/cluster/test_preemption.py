"""Warnings of Ray Train, and its reports of failed workers, without a cluster."""

import pickle

import pytest
import ray.train
from ray.exceptions import RayActorError

from ltdd_ray.cluster.preemption import PreemptionWarnings, loss_note
from ltdd_ray.cluster.session import RAY_SETTINGS


class Warned:
    def __init__(self, *nodes: str) -> None:
        self.preempted_node_ids = list(nodes)


class HealthCheckFailed(Exception):
    """As Ray Train wraps the death of a worker."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.health_check_failure = failure


def died(actor: str, preempted: bool = False) -> HealthCheckFailed:
    return HealthCheckFailed(RayActorError(actor, preempted=preempted))


def test_each_node_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, Warned("bbbbbbbbbb"), Warned("bbbbbbbbbb"), Warned("a", "bbbbbbbbbb")])
    monkeypatch.setattr(ray.train, "get_preemption_info", lambda: next(answers), raising=False)
    said: list[str] = []
    warnings = PreemptionWarnings(said.append)
    assert [warnings.new() for _ in range(4)] == [False, True, False, True]
    assert said == [
        "preemption of node bbbbbbbb announced; a checkpoint is written now",
        "preemption of node a announced; a checkpoint is written now",
    ]


def test_a_ray_without_warnings_never_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ray.train, "get_preemption_info", raising=False)
    assert not PreemptionWarnings(print).new()


def test_the_watcher_of_ray_train_is_on() -> None:
    assert RAY_SETTINGS.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1") == "1"


def test_workers_that_died_are_one_incident_and_told_once() -> None:
    told: set[str] = set()
    failed = {0: died("x"), 1: ValueError("a worker's own error"), 2: died("y")}
    note = loss_note(failed, told)
    assert note == "lost 2 worker(s); all workers start again from the last checkpoint"
    assert note is not None and note.losses == {"actors": 2, "preempted": 0, "incidents": 1}
    assert loss_note(failed, told) is None
    assert loss_note({0: ValueError()}, told) is None


def test_workers_that_fail_with_a_preempted_one_are_no_incident() -> None:
    note = loss_note({0: died("x", preempted=True), 1: died("y")}, set())
    assert note is not None and note.losses == {"actors": 2, "preempted": 2, "incidents": 0}
    sent = pickle.loads(pickle.dumps(note))  # as the mailbox carries it to the driver
    assert sent == note and sent.losses == note.losses
