"""How many actors a pool starts, and the fraction of a GPU that each of them requests."""

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
    memory_probe: Callable[..., None] | None,
    shared: Sequence[ray.ObjectRef],
    say: Callable[[str], Any],
) -> tuple[int, float]:
    """(number of actors to start for ``tasks``, GPUs of each).

    Both come from ``compute``, unless its ``gpus_per_actor`` is ``auto``. In that case
    ``memory_probe(*shared, tasks)`` runs once on a whole GPU, and as many actors share each GPU as
    its measured memory allows; ``say`` receives a sentence about it. If there is a GPU for every
    task, nothing is measured. Raises ``UserError`` if the actors do not fit the cluster.
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
            compute.model_copy(update={"gpus_per_actor": 0.0}), tasks, memory_probe, shared, say
        )
    if memory_probe is None or alone == len(tasks):
        return alone, 1
    task = _measure.options(num_cpus=cpus, num_gpus=1)
    taken, memory = ray.get(task.remote(memory_probe, compute.threads, tasks, *shared))
    together = actors_per_gpu(nodes, cpus, len(tasks), taken, memory)
    count = capacity(nodes, cpus, share_of(together), enough=len(tasks))
    say(
        f"an actor takes {taken / 2**30:.2g} of a GPU's {memory / 2**30:.2g} GiB: "
        f"{count} actors, {together} to a GPU"
    )
    return count, share_of(together)


@ray.remote(max_calls=1)  # the process ends with its task and frees the GPU
def _measure(
    memory_probe: Callable[..., None], threads: int, tasks: Sequence[tuple], *shared: Any
) -> tuple[int, int]:
    prepare_process(threads)
    memory_probe(*shared, tasks)
    return gpu_memory()
