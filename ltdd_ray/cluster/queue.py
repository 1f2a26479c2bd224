"""Which task a pool runs next. Pure Python, without Ray."""

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

Task = TypeVar("Task")


class TaskQueue(Generic[Task]):
    """Assigns each task to one worker at a time, until every task has finished once.

    If a worker dies, its task goes back to the front of the queue.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
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
        """Put the task of a dead worker back."""
        self._waiting.appendleft(self._running.pop(worker))
