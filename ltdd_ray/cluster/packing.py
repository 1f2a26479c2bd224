"""How many actors share each GPU of a cluster: a decision, without Ray."""

from collections.abc import Sequence

HEADROOM = 0.2  # of a GPU's memory; no two tasks take quite the same
RAYS_UNITS = 10_000  # Ray counts a GPU in parts of this size, and rounds


def actors_per_gpu(
    nodes: Sequence[dict[str, float]], cpus: float, tasks: int, taken: int, memory: int
) -> int:
    """As many as memory, the CPUs beside each GPU and the work allow, at least one.

    Work is spread over all GPUs before any is shared. All GPUs are taken to be alike.

    Args:
        nodes: resources of each node; one of them at least has a GPU and the CPUs of an actor.
        cpus: what an actor needs beside its share. tasks: how many wait.
        taken: bytes of a GPU that an actor takes. memory: bytes that a GPU has.
    """
    hosts = [node for node in nodes if node.get("GPU", 0) >= 1 and node.get("CPU", 0) >= cpus]
    by_memory = int((1 - HEADROOM) * memory / taken)
    by_work = -(-tasks // int(sum(node["GPU"] for node in hosts)))
    by_cpus = (
        min(int(node["CPU"] / node["GPU"] / cpus + 1e-9) for node in hosts) if cpus else by_work
    )
    return max(1, min(by_memory, by_work, by_cpus))


def share_of(actors: int) -> float:
    """The part of a GPU that lets so many actors share it by Ray's arithmetic."""
    return RAYS_UNITS // actors / RAYS_UNITS
