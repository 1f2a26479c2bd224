"""Which task a pool runs next, and whether a lost task runs again. Pure Python, without Ray."""

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from ltdd_ray.common.errors import UserError

Task = TypeVar("Task")


class TaskQueue(Generic[Task]):
    """Assigns each task to one worker at a time, until every task has finished once.

    If a worker dies, its task goes back to the front of the queue. More than ``max_failures``
    deaths, counted over all tasks, end the stage.
    """

    def __init__(self, tasks: Sequence[Task], max_failures: int) -> None:
        self.failures = 0
        self._max_failures = max_failures
        self._waiting = deque(tasks)
        self._running: dict[Hashable, Task] = {}

    def start(self, worker: Hashable) -> Task | None:
        """The next task, now assigned to ``worker``; None if no task waits."""
        if not self._waiting:
            return None
        self._running[worker] = self._waiting.popleft()
        return self._running[worker]

    def finish(self, worker: Hashable) -> Task:
        """Record that ``worker`` finished its task, and return that task."""
        return self._running.pop(worker)

    def lose(self, worker: Hashable) -> None:
        """Put the task of a dead worker back. Raises ``UserError`` after too many deaths."""
        self._waiting.appendleft(self._running.pop(worker))
        self.failures += 1
        if self.failures > self._max_failures:
            raise UserError(
                f"{self.failures} worker processes died, more than compute.max_failures = "
                f"{self._max_failures} allows; the usual cause is memory, so lower "
                "compute.num_actors and run the same command again: finished work is kept"
            )
