"""Which task runs next, and whether a lost one runs again: the policy of a pool, without Ray."""

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from ltdd_ray.common.errors import UserError

Task = TypeVar("Task")


class TaskQueue(Generic[Task]):
    """Hands every task to one worker at a time until each has finished once.

    A worker that dies costs its current task only, which goes to the front of the queue. More than ``max_failures`` deaths, over
    all tasks together, end the stage.
    """

    def __init__(self, tasks: Sequence[Task], max_failures: int) -> None:
        self.failures = 0
        self._max_failures = max_failures
        self._waiting = deque(tasks)
        self._running: dict[Hashable, Task] = {}

    def start(self, worker: Hashable) -> Task | None:
        """The task ``worker`` shall run now; None where nothing waits."""
        if not self._waiting:
            return None
        self._running[worker] = self._waiting.popleft()
        return self._running[worker]

    def finish(self, worker: Hashable) -> Task:
        """Note that ``worker`` finished its task; returns that task."""
        return self._running.pop(worker)

    def lose(self, worker: Hashable) -> None:
        """Note that ``worker`` died. Raises ``UserError`` when that was one death too many."""
        self._waiting.appendleft(self._running.pop(worker))
        self.failures += 1
        if self.failures > self._max_failures:
            raise UserError(
                f"{self.failures} worker processes died, more than compute.max_failures = {self._max_failures} allows; the usual "
                "cause is memory, so lower compute.num_actors, then run the same command again: finished work is kept"
            )
