"""The queue of a pool: each task finishes exactly once, in any order of deaths and finishes."""

import random

import pytest

from ltdd_ray.cluster.queue import TaskQueue


@pytest.mark.parametrize("seed", range(20))
def test_every_task_finishes_once_in_any_order_of_deaths(seed: int) -> None:
    draw = random.Random(seed)
    tasks = [(number,) for number in range(draw.randrange(1, 9))]
    queue = TaskQueue(tasks)
    idle, busy, names, finished = [0, 1, 2], [], 3, []
    while idle or busy:
        if idle:
            worker = idle.pop()
            if queue.start(worker) is not None:
                busy.append(worker)
        else:
            worker = busy.pop(draw.randrange(len(busy)))
            if draw.random() < 0.4:
                queue.lose(worker)
                idle.append(names := names + 1)
            else:
                finished.append(queue.finish(worker))
                idle.append(worker)
    assert sorted(finished) == tasks


def test_tasks_start_in_order_and_a_lost_one_comes_next() -> None:
    queue = TaskQueue("abc")
    assert [queue.start(1), queue.start(2)] == ["a", "b"]
    queue.lose(1)
    assert [queue.start(3), queue.start(4), queue.start(5)] == ["a", "c", None]
