"""Plain functions on a pool of Ray actors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from ltdd_ray.cluster.mailbox import Outbox, open_mailbox
from ltdd_ray.cluster.placement import place_actors
from ltdd_ray.cluster.queue import TaskQueue
from ltdd_ray.common.device import prepare_process
from ltdd_ray.common.hardware import peak_memory
from ltdd_ray.config import ComputeConfig

POLL_SECONDS = 0.2


class Outcome(NamedTuple):
    """A finished task, what its function returned, and the peak memory (bytes) of the process that ran it."""

    task: tuple
    result: Any
    peak_memory: int


@ray.remote
class Worker:
    """Runs one task at a time. ``shared`` arrives by reference, so every actor of a machine reads the same memory."""

    def __init__(self, function: Callable, threads: int, mailbox: Any, *shared: Any) -> None:
        prepare_process(threads)
        self._function, self._outbox, self._shared = function, Outbox(mailbox), shared

    def run(self, task: tuple) -> tuple[Any, int]:
        result = self._function(*self._shared, *task, self._outbox.add)
        self._outbox.flush()
        return result, peak_memory()


def run_tasks(
    function: Callable[..., Any],
    tasks: Sequence[tuple],
    *,
    shared: tuple,
    compute: ComputeConfig,
    on_report: Callable[[Any], None],
    rehearse: Callable[..., None] | None = None,
) -> Iterator[Outcome]:
    """Call ``function(*shared, *task, report)`` for every task and yield the outcomes as they come.

    Args:
        function: a plain function of an importable module; what it passes to ``report`` reaches ``on_report`` in this process.
        shared: arguments equal for all tasks, put once into the object store; their arrays arrive read-only, without a copy.
        compute: how many actors, what each holds, and how many may die (see :class:`TaskQueue`).
        rehearse: takes, as ``rehearse(*shared, tasks)``, the memory of the largest task in a moment, for ``compute.gpus_per_actor``
            auto; what comes of it reaches ``on_report`` as a sentence.

    Raises ``UserError`` before the first task where the actors do not fit the cluster. An exception in ``function`` ends the
    pool and is raised here as it was.
    """
    if not tasks:
        return
    references = [ray.put(value) for value in shared]
    num_actors, gpus = place_actors(compute, tasks, rehearse, references, on_report)
    queue: TaskQueue[tuple] = TaskQueue(tasks, compute.max_failures)
    mailbox = open_mailbox()
    hired: list[Any] = []
    running: dict[ray.ObjectRef, Any] = {}

    def hire() -> Any:
        options = Worker.options(num_cpus=compute.cpus_per_actor, num_gpus=gpus)
        hired.append(options.remote(function, compute.threads, mailbox, *references))
        return hired[-1]

    def assign(worker: Any) -> None:
        task = queue.start(worker)
        if task is None:
            ray.kill(worker)
        else:
            running[worker.run.remote(task)] = worker

    try:
        for _ in range(num_actors):
            assign(hire())
        while running:
            finished, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            for report in ray.get(mailbox.drain.remote()):
                on_report(report)
            for reference in finished:
                worker = running.pop(reference)
                try:
                    result, peak = ray.get(reference)
                except RayTaskError as error:
                    raise error.cause from error
                except (RayActorError, OutOfMemoryError):
                    ray.kill(
                        worker
                    )  # it may only be out of reach, and must not go on beside its successor
                    queue.lose(worker)
                    assign(hire())
                else:
                    yield Outcome(queue.finish(worker), result, peak)
                    assign(worker)
    finally:  # a handle in some traceback would keep an actor, and its CPU, for ever
        for actor in (*hired, mailbox):
            ray.kill(actor)
