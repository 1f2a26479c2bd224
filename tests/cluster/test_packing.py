"""How many actors share a GPU: memory, CPUs and work each set a limit."""

import pytest

from ltdd_ray.cluster.packing import actors_per_gpu, share_of

GIB = 2**30
BIG = {"CPU": 64.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("nodes", "cpus", "tasks", "taken", "together"),
    [
        ([BIG], 1, 1000, 6 * GIB, 10),  # 80 GiB less a fifth
        ([BIG], 1, 1000, 7 * GIB, 9),
        ([BIG], 1, 1000, 33 * GIB, 1),
        (
            [BIG],
            1,
            1000,
            90 * GIB,
            1,
        ),  # more than there is: it may still fit, and says so itself if not
        ([BIG], 1, 10, GIB, 3),  # ten tasks on four GPUs
        ([BIG], 4, 1000, GIB, 4),  # sixteen CPUs beside each
        ([BIG], 0, 1000, GIB, 64),
        (
            [{"CPU": 16.0}, {"CPU": 0.0, "GPU": 1.0}, BIG],
            2,
            1000,
            GIB,
            8,
        ),  # nodes that can hold none do not count
        ([{"CPU": 3.0, "GPU": 4.0}], 1, 1000, GIB, 1),
        (
            [BIG, {"CPU": 8.0, "GPU": 4.0}],
            1,
            1000,
            GIB,
            2,
        ),  # the node with the fewest CPUs beside a GPU decides
    ],
)
def test_the_scarcest_resource_decides(
    nodes: list[dict[str, float]], cpus: float, tasks: int, taken: int, together: int
) -> None:
    assert actors_per_gpu(nodes, cpus, tasks, taken, memory=80 * GIB) == together


@pytest.mark.parametrize("actors", range(1, 101))
def test_exactly_so_many_shares_fit_a_gpu(actors: int) -> None:
    units = round(share_of(actors) * 10_000)  # what Ray makes of it
    assert actors * units <= 10_000 < (actors + 1) * units
