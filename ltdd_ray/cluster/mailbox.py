"""Messages from workers to the driver: progress reports, and an error that a retry would repeat."""

import time
from typing import Any

import ray
from ray.exceptions import ActorUnschedulableError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ltdd_ray.common.errors import UserError

SECONDS_BETWEEN_POSTS = 0.1


@ray.remote(num_cpus=0)
class Mailbox:
    """An actor that keeps messages until the driver fetches them. It reserves no CPU."""

    def __init__(self) -> None:
        self._reports: list[Any] = []
        self._failure: UserError | None = None
        self._nodes: dict[int, str] = {}

    def post(self, reports: list[Any]) -> None:
        self._reports += reports

    def drain(self) -> list[Any]:
        """All reports since the last call, in order of arrival."""
        reports, self._reports = self._reports, []
        return reports

    def place(self, actor: int, node: str) -> None:
        """Keep the node of an actor, since Ray does not tell it once the actor is lost."""
        self._nodes[actor] = node

    def node_of(self, actor: int) -> str | None:
        return self._nodes.get(actor)

    def fail(self, failure: UserError) -> None:
        """Keep an error that a restarted worker would raise again; later errors are dropped."""
        self._failure = self._failure or failure

    def failure(self) -> UserError | None:
        return self._failure


def open_mailbox() -> Any:
    """A mailbox on the driver's node, so the loss of another node does not lose it.

    Where Ray cannot place it there, as once on a machine under load, another node will do.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return Mailbox.options(scheduling_strategy=here).remote()


def answer(reference: Any) -> Any:
    """What a mailbox returned. Raises ``UserError`` where its process is gone or cannot start."""
    try:
        return ray.get(reference)
    except ActorUnschedulableError as error:
        raise UserError(
            "Ray cannot start the process that collects the workers' messages; the usual cause is "
            "a machine under heavy load; run the same command again: it goes on from what was kept"
        ) from error
    except RayActorError as error:
        raise UserError(
            "the process that collects the workers' messages on this node has ended, for lack of "
            "memory or because somebody ended it; the same command goes on from what was kept"
        ) from error


class Outbox:
    """A worker's end of the mailbox.

    It collects reports and posts them at most ten times a second, so a fast loop may report every
    step.
    """

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._reports: list[Any] = []
        self._posted = 0.0

    def add(self, report: Any) -> None:
        self._reports.append(report)
        if time.monotonic() - self._posted >= SECONDS_BETWEEN_POSTS:
            self._post()

    def flush(self) -> None:
        """Post all collected reports, and return when the mailbox has them."""
        answer(self._post())

    def _post(self) -> Any:
        arrived = self._mailbox.post.remote(self._reports)
        self._reports, self._posted = [], time.monotonic()
        return arrived
