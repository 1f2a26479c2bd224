"""Run a plain function for many tasks on a pool of Ray actors."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from ltdd_ray.cluster.incidents import Incidents
from ltdd_ray.cluster.mailbox import Outbox, answer, open_mailbox
from ltdd_ray.cluster.placement import place_actors
from ltdd_ray.cluster.queue import TaskQueue
from ltdd_ray.common.device import prepare_process
from ltdd_ray.common.hardware import peak_memory
from ltdd_ray.config import ComputeConfig

POLL_SECONDS = 0.2


class TaskResult(NamedTuple):
    """A finished task, the function's return value, and the actor's peak memory in bytes."""

    task: tuple
    result: Any
    peak_memory: int


@ray.remote
class Worker:
    """Runs one task at a time. All actors of a node read the same copy of ``shared``."""

    def __init__(
        self, number: int, function: Callable, threads: int, mailbox: Any, *shared: Any
    ) -> None:
        prepare_process(threads)
        ray.get(mailbox.place.remote(number, ray.get_runtime_context().get_node_id()))
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
    memory_probe: Callable[..., None] | None = None,
) -> Iterator[TaskResult]:
    """Call ``function(*shared, *task, report)`` for every task, and yield results as they finish.

    Args:
        function: a plain function of an importable module. Each value that it passes to ``report``
            is passed to ``on_report`` in this process.
        tasks: the arguments that differ between calls.
        shared: the arguments that are equal for all tasks. They are put into the object store once;
            their arrays arrive read-only, without a copy.
        compute: number of actors, resources of each, and how many incidents may take some away
            (:class:`~ltdd_ray.cluster.incidents.Incidents`).
        on_report: also receives a sentence for each lost actor, and if several share a GPU.
        memory_probe: ``memory_probe(*shared, tasks)`` quickly allocates as much GPU memory as the
            largest task. It is called if ``compute.gpus_per_actor`` is ``auto``.

    Raises ``UserError`` before the first task if the actors do not fit the cluster. An exception in
    ``function`` ends the pool and is raised here unchanged.
    """
    if not tasks:
        return
    references = [ray.put(value) for value in shared]
    num_actors, gpus = place_actors(compute, tasks, memory_probe, references, on_report)
    queue: TaskQueue[tuple] = TaskQueue(tasks)
    incidents = Incidents(compute.max_failures)
    mailbox = open_mailbox()
    actors: dict[Any, tuple[int, float]] = {}  # their numbers, and when they were started
    running: dict[ray.ObjectRef, Any] = {}

    def start_actor() -> Any:
        options = Worker.options(num_cpus=compute.cpus_per_actor, num_gpus=gpus)
        number = len(actors)
        actor = options.remote(number, function, compute.threads, mailbox, *references)
        actors[actor] = (number, time.monotonic())
        return actor

    def assign(worker: Any) -> None:
        task = queue.start(worker)
        if task is None:
            ray.kill(worker)
        else:
            running[worker.run.remote(task)] = worker

    try:
        for _ in range(num_actors):
            assign(start_actor())
        while running:
            finished, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            for report in answer(mailbox.drain.remote()):
                on_report(report)
            for reference in finished:
                worker = running.pop(reference)
                try:
                    result, peak = ray.get(reference)
                except RayTaskError as error:
                    raise error.cause from error
                except (RayActorError, OutOfMemoryError) as error:
                    # The actor may still be alive but unreachable; it must not go on beside the
                    # one that takes its task over.
                    ray.kill(worker)
                    queue.lose(worker)
                    number, started = actors[worker]
                    node = answer(mailbox.node_of.remote(number))
                    preempted = isinstance(error, RayActorError) and error.preempted
                    on_report(incidents.add(node, started, time.monotonic(), preempted))
                    incidents.require_few()
                    assign(start_actor())
                else:
                    yield TaskResult(queue.finish(worker), result, peak)
                    assign(worker)
    finally:  # a handle kept by a traceback would keep the actor and its CPU for ever
        for actor in (*actors, mailbox):
            ray.kill(actor)
