"""Messages from workers to the driver: progress, and the one error that retrying cannot mend."""

import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ltdd_ray.common.errors import UserError

SECONDS_BETWEEN_POSTS = 0.1


@ray.remote(num_cpus=0)
class Mailbox:
    """Workers post without waiting, the driver drains. Holds no CPU, so it never competes with them."""

    def __init__(self) -> None:
        self._reports: list[Any] = []
        self._failure: UserError | None = None

    def post(self, reports: list[Any]) -> None:
        self._reports += reports

    def drain(self) -> list[Any]:
        """All reports since the last call, in order of arrival."""
        reports, self._reports = self._reports, []
        return reports

    def fail(self, failure: UserError) -> None:
        """Record an error that a restarted worker would meet again; the first one stays."""
        self._failure = self._failure or failure

    def failure(self) -> UserError | None:
        return self._failure


def open_mailbox() -> Any:
    """A mailbox on this process's node: no other machine takes it along when it is lost."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Mailbox.options(scheduling_strategy=here).remote()


class Outbox:
    """A worker's end: posts what it collected at most ten times a second, so that a fast loop may report every step."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._reports: list[Any] = []
        self._posted = 0.0

    def add(self, report: Any) -> None:
        self._reports.append(report)
        if time.monotonic() - self._posted >= SECONDS_BETWEEN_POSTS:
            self._post()

    def flush(self) -> None:
        """Return once the driver can drain everything that was added."""
        ray.get(self._post())

    def _post(self) -> Any:
        arrived = self._mailbox.post.remote(self._reports)
        self._reports, self._posted = [], time.monotonic()
        return arrived
