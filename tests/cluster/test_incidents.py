"""Losses of one node count once; a loop of deaths still ends; preemptions are not counted."""

import pytest

from ltdd_ray.cluster.incidents import SECONDS_OF_AN_INCIDENT, Incidents
from ltdd_ray.common.errors import UserError


def lose(incidents: Incidents, node: str | None, started: float, lost: float) -> dict[str, int]:
    return incidents.add(node, started, lost, preempted=False).losses


def test_the_actors_of_a_lost_node_are_one_incident() -> None:
    incidents = Incidents(allowed=1)
    found = [lose(incidents, "a", started=0, lost=100 + actor / 2) for actor in range(8)]
    assert [losses["incidents"] for losses in found] == [1, 0, 0, 0, 0, 0, 0, 0]
    assert incidents.counted == 1
    incidents.require_few()


def test_nodes_are_counted_apart() -> None:
    incidents = Incidents(allowed=3)
    for node in ("a", "b", "a", None, "b", None):
        lose(incidents, node, started=0, lost=10)
    assert incidents.counted == 3  # a, b, and the actors whose node nobody knows


def test_a_later_loss_on_the_same_node_is_a_new_incident() -> None:
    incidents = Incidents(allowed=3)
    lose(incidents, "a", started=0, lost=10)
    lose(incidents, "a", started=0, lost=10 + SECONDS_OF_AN_INCIDENT)
    assert incidents.counted == 1
    lose(incidents, "a", started=0, lost=10 + SECONDS_OF_AN_INCIDENT + 1)
    assert incidents.counted == 2


def test_an_actor_that_started_after_an_incident_does_not_belong_to_it() -> None:
    """So two tasks that kill every actor at once end the stage, however fast they do it."""
    incidents = Incidents(allowed=3)
    with pytest.raises(
        UserError, match=r"in 4 incidents, more than compute\.max_failures = 3 allows"
    ):
        for second in range(20):
            for moment in (0, 0.1):  # the first one's place is taken before the second one is lost
                lose(incidents, "a", started=second - 1 + moment, lost=second + moment)
                incidents.require_few()
    assert second == 3


def test_preempted_actors_are_told_but_not_counted() -> None:
    incidents = Incidents(allowed=0)
    notes = [incidents.add("a", 0, 10, preempted=True), incidents.add("a", 0, 11, preempted=False)]
    for note in notes:  # Ray does not know of every actor why its node went
        assert note == "lost an actor of node a to preemption, which is not counted"
        assert note.losses == {"actors": 1, "preempted": 1, "incidents": 0}
    incidents.require_few()
    assert lose(incidents, "a", started=10.5, lost=12)["incidents"] == 1
    with pytest.raises(UserError, match="in 1 incidents"):
        incidents.require_few()


def test_the_sentences_tell_how_many_are_left() -> None:
    incidents = Incidents(allowed=3)
    assert incidents.add("0123456789", 0, 10, preempted=False) == (
        "lost an actor of node 01234567, a new incident (1 of compute.max_failures = 3)"
    )
    assert incidents.add("0123456789", 0, 10, preempted=False) == (
        "lost an actor of node 01234567, in the same incident (1 of compute.max_failures = 3)"
    )
    assert incidents.add(None, 0, 10, preempted=False).startswith(
        "lost an actor that was starting, a new incident (2 of"
    )
