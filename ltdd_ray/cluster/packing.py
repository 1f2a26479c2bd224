"""How many actors share each GPU of a cluster. Pure functions, without Ray."""

from collections.abc import Sequence

HEADROOM = 0.2  # share of a GPU's memory left free, because tasks differ a little
RAYS_UNITS = 10_000  # Ray counts a GPU in so many units, and rounds


def actors_per_gpu(
    nodes: Sequence[dict[str, float]], cpus: float, tasks: int, taken: int, memory: int
) -> int:
    """The largest number that memory, the CPUs per GPU and the number of tasks allow; at least 1.

    Tasks are spread over all GPUs before two share one. All GPUs are assumed to be equal.

    Args:
        nodes: resources of each node. At least one has a GPU and enough CPUs for an actor.
        cpus: CPUs of an actor.
        tasks: number of waiting tasks.
        taken: GPU memory of an actor in bytes.
        memory: memory of a GPU in bytes.
    """
    hosts = [node for node in nodes if node.get("GPU", 0) >= 1 and node.get("CPU", 0) >= cpus]
    by_memory = int((1 - HEADROOM) * memory / taken)
    by_work = -(-tasks // int(sum(node["GPU"] for node in hosts)))
    by_cpus = (
        min(int(node["CPU"] / node["GPU"] / cpus + 1e-9) for node in hosts) if cpus else by_work
    )
    return max(1, min(by_memory, by_work, by_cpus))


def share_of(actors: int) -> float:
    """The fraction of a GPU that each of ``actors`` requests, rounded down as Ray counts."""
    return RAYS_UNITS // actors / RAYS_UNITS
