"""Nodes that their owner takes back: a checkpoint at the warning, and notes about lost workers.

Ray Train's preemption watcher asks Ray for draining nodes every 5 s and warns all workers. Train
starts them again from the last checkpoint when the node is gone; it counts preemptions apart from
``compute.max_failures``, without a limit.
"""

from collections.abc import Callable, Mapping
from typing import Any

import ray.train
from ray.exceptions import RayActorError

from ltdd_ray.runs.events import LossNote


class PreemptionWarnings:
    """Whether Ray Train warns of a preemption, once for each set of nodes.

    A Ray without ``ray.train.get_preemption_info`` never warns.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._ask = getattr(ray.train, "get_preemption_info", lambda: None)
        self._say = say
        self._told: set[str] = set()

    def new(self) -> bool:
        """Whether there is a warning about nodes that no earlier call told of.

        All ranks get the same answer, and wait here for each other. So every rank must call this
        after the same updates.
        """
        warning = self._ask()
        nodes = set(warning.preempted_node_ids) - self._told if warning else set()
        if not nodes:
            return False
        self._told |= nodes
        names = ", ".join(sorted(node[:8] for node in nodes))
        self._say(f"preemption of node {names} announced; a checkpoint is written now")
        return True


class LossNotes(ray.train.UserCallback):
    """Posts a sentence to the driver's mailbox when Ray Train loses workers."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._told: set[str] = set()

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train, in its controller, with the exception of each failed rank."""
        note = loss_note(worker_exceptions, self._told)
        if note is not None:
            self._mailbox.post.remote([note])


def loss_note(exceptions: Mapping[int, Exception], told: set[str]) -> LossNote | None:
    """The sentence for the workers that died, as one incident; None where none did.

    An exception that a worker raised itself is no loss. ``told`` has the actors of earlier
    sentences and gets those of this one, since Ray Train may report an actor twice. As for Ray
    Train, one preempted worker makes the incident a preemption: the others fail in its wake.
    """
    causes = (getattr(error, "health_check_failure", error) for error in exceptions.values())
    died = {
        str(cause.actor_id): cause.preempted for cause in causes if isinstance(cause, RayActorError)
    }
    new = {actor: preempted for actor, preempted in died.items() if actor not in told}
    if not new:
        return None
    told |= set(new)
    again = "all workers start again from the last checkpoint"
    if any(new.values()):
        sentence = f"lost {len(new)} worker(s) to preemption, which is not counted; {again}"
        return LossNote(sentence, actors=len(new), preempted=len(new))
    return LossNote(f"lost {len(new)} worker(s); {again}", actors=len(new), incidents=1)
