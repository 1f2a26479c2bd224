"""Counting lost actors as incidents: a node that takes eight actors with it is one. Without Ray."""

from dataclasses import dataclass

from ltdd_ray.common.errors import UserError
from ltdd_ray.runs.events import LossNote

SECONDS_OF_AN_INCIDENT = 30.0  # Ray reports the actors of one lost node within about this time


@dataclass
class Incident:
    """Losses on one node that count as one. ``began``: seconds, on the clock of the caller."""

    node: str | None
    began: float
    preempted: bool


class Incidents:
    """The incidents of one stage, of which it survives ``allowed``.

    Losses on one node within :data:`SECONDS_OF_AN_INCIDENT` are one incident. An actor that started
    after an incident began does not belong to it, so a task that kills every actor still ends the
    stage. Preempted nodes are expected to go, so their actors are not counted at all.
    """

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._incidents: list[Incident] = []

    @property
    def counted(self) -> int:
        """The incidents that count towards the allowed ones."""
        return sum(not incident.preempted for incident in self._incidents)

    def add(self, node: str | None, started: float, lost: float, preempted: bool) -> LossNote:
        """Record that an actor was lost, and return the sentence to tell.

        ``node`` is None for actors that were lost before they told it; they count as of one node.
        ``started`` and ``lost`` are seconds on one clock.
        """
        place = f"an actor of node {node[:8]}" if node else "an actor that was starting"
        known = self._incident_of(node, started, lost)
        if known is None:
            self._incidents.append(Incident(node, lost, preempted))
        if preempted or (known is not None and known.preempted):
            return LossNote(f"lost {place} to preemption, which is not counted", preempted=1)
        count = f"{self.counted} of compute.max_failures = {self._allowed}"
        if known is not None:
            return LossNote(f"lost {place}, in the same incident ({count})")
        return LossNote(f"lost {place}, a new incident ({count})", incidents=1)

    def _incident_of(self, node: str | None, started: float, lost: float) -> Incident | None:
        for incident in reversed(self._incidents):
            if incident.node == node:
                belongs = lost - incident.began <= SECONDS_OF_AN_INCIDENT
                return incident if belongs and started < incident.began else None
        return None

    def require_few(self) -> None:
        """Raise ``UserError`` where more incidents were counted than are allowed."""
        if self.counted > self._allowed:
            raise UserError(
                f"worker processes died in {self.counted} incidents, more than "
                f"compute.max_failures = {self._allowed} allows; the usual cause is memory, so "
                "lower compute.num_actors and run the same command again: finished work is kept"
            )
