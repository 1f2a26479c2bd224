"""How many actors a pool starts and what part of a GPU each holds, where that is to be found out by measuring."""

from collections.abc import Callable, Sequence
from typing import Any

import ray

from ltdd_ray.cluster.packing import actors_per_gpu, share_of
from ltdd_ray.cluster.session import alive_nodes, capacity, require_capacity
from ltdd_ray.common.device import prepare_process
from ltdd_ray.common.hardware import gpu_memory
from ltdd_ray.config import ComputeConfig


def place_actors(
    compute: ComputeConfig,
    tasks: Sequence[tuple],
    rehearse: Callable[..., None] | None,
    shared: Sequence[ray.ObjectRef],
    say: Callable[[str], Any],
) -> tuple[int, float]:
    """How many actors to start for ``tasks``, and the GPUs of each.

    ``compute`` says so, unless ``gpus_per_actor`` is ``auto``: then ``rehearse(*shared, tasks)`` is called once on a whole GPU, as
    many actors share each as fit by what it took, and ``say`` hears about it. Where there is a GPU for every task, nothing is
    measured. Raises ``UserError`` where the actors do not fit the cluster.
    """
    cpus, gpus = compute.cpus_per_actor, compute.gpus_per_actor
    if gpus != "auto":
        count = min(compute.num_actors, len(tasks))
        require_capacity("num_actors", count, cpus, gpus)
        return count, gpus
    nodes = alive_nodes()
    alone = capacity(nodes, cpus, 1, enough=len(tasks))
    if not alone:
        return place_actors(
            compute.model_copy(update={"gpus_per_actor": 0.0}), tasks, rehearse, shared, say
        )
    if rehearse is None or alone == len(tasks):
        return alone, 1
    task = _measure.options(num_cpus=cpus, num_gpus=1)
    taken, memory = ray.get(task.remote(rehearse, compute.threads, tasks, *shared))
    together = actors_per_gpu(nodes, cpus, len(tasks), taken, memory)
    count = capacity(nodes, cpus, share_of(together), enough=len(tasks))
    say(
        f"an actor takes {taken / 2**30:.2g} of a GPU's {memory / 2**30:.2g} GiB: {count} actors, {together} to a GPU"
    )
    return count, share_of(together)


@ray.remote(max_calls=1)  # the process ends with its task, and leaves the GPU
def _measure(
    rehearse: Callable[..., None], threads: int, tasks: Sequence[tuple], *shared: Any
) -> tuple[int, int]:
    prepare_process(threads)
    rehearse(*shared, tasks)
    return gpu_memory()
