"""The pool on real actors.

Tasks are nested functions, which Ray pickles by value; actors cannot import a test module.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ray

from ltdd_ray.cluster import pool
from ltdd_ray.cluster.mailbox import open_mailbox
from ltdd_ray.cluster.pool import run_tasks
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ComputeConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.runs.events import LossNote

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
TWO_ACTORS = ComputeConfig(num_actors=2, threads=2, max_failures=1)


def test_results_reports_and_shared_arrays() -> None:
    import torch

    def task(
        data: LongTailedDataset, offset: int, report: Callable[[object], None]
    ) -> tuple[int, bool, int]:
        report(("seen", offset))
        return int(data.images.sum()) + offset, data.images.flags.writeable, torch.get_num_threads()

    heard: list[tuple[str, int]] = []
    data = LongTailedDataset(
        np.ones((10, 1, 10, 10), dtype=np.uint8), np.zeros(10, dtype=np.int64), ("only",)
    )
    outcomes = list(
        run_tasks(
            task, [(1,), (2,), (3,)], shared=(data,), compute=TWO_ACTORS, on_report=heard.append
        )
    )
    assert sorted((o.task, o.result) for o in outcomes) == [
        ((k,), (1000 + k, False, 2)) for k in (1, 2, 3)
    ]
    assert all(o.peak_memory > 10_000_000 for o in outcomes)
    assert sorted(heard) == [("seen", 1), ("seen", 2), ("seen", 3)]


@pytest.mark.parametrize("kind", [UserError, ZeroDivisionError])
def test_an_error_in_a_task_is_raised_unchanged(kind: type[Exception]) -> None:
    def task(number: int, report: Callable[[object], None]) -> None:
        if number == 1:
            raise kind("number is 1")

    with pytest.raises(kind, match=r"^number is 1$") as caught:
        list(
            run_tasks(
                task, [(k,) for k in range(3)], shared=(), compute=TWO_ACTORS, on_report=print
            )
        )
    assert type(caught.value) is kind


def test_a_lost_mailbox_ends_the_stage_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = open_mailbox()
    ray.kill(mailbox)
    monkeypatch.setattr(pool, "open_mailbox", lambda: mailbox)
    tasks = run_tasks(
        lambda number, report: number, [(1,)], shared=(), compute=TWO_ACTORS, on_report=print
    )
    with pytest.raises(UserError, match=r"collects the workers' messages .* has ended"):
        list(tasks)


def test_only_the_task_of_a_killed_actor_runs_again(tmp_path: Path) -> None:
    def task(number: int, report: Callable[[object], None]) -> int:
        (tmp_path / f"{number}-{os.getpid()}").touch()
        if number == 1 and len(list(tmp_path.glob("1-*"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    outcomes = list(
        run_tasks(task, [(k,) for k in range(4)], shared=(), compute=TWO_ACTORS, on_report=print)
    )
    assert sorted(o.result for o in outcomes) == [0, 1, 2, 3]
    begun = sorted(file.name[0] for file in tmp_path.iterdir())
    assert begun == ["0", "1", "1", "2", "3"]


def test_a_task_that_always_kills_its_actor_ends_the_pool() -> None:
    def task(report: Callable[[object], None]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    heard: list[object] = []
    with pytest.raises(UserError, match="worker processes died in 2 incidents, more than"):
        list(run_tasks(task, [()], shared=(), compute=TWO_ACTORS, on_report=heard.append))
    assert [note.losses for note in heard if isinstance(note, LossNote)] == 2 * [
        {"actors": 1, "preempted": 0, "incidents": 1}
    ]
    assert all("lost an actor of node " in str(note) for note in heard)


def test_a_failed_pool_frees_its_cpus_while_its_error_is_kept() -> None:
    import ray
    from ray._common.test_utils import wait_for_condition

    def task(report: Callable[[object], None]) -> None:
        raise UserError("kept")

    with pytest.raises(UserError) as kept:
        list(run_tasks(task, [(), ()], shared=(), compute=TWO_ACTORS, on_report=print))
    wait_for_condition(
        lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], timeout=20
    )
    assert kept.value.__traceback__ is not None


def test_as_many_actors_share_a_gpu_as_fit_by_measured_memory(tmp_path: Path) -> None:
    """Ray is told of a GPU that does not exist; the measured memory is a quarter of it, faked."""

    def memory_probe(given: str, tasks: list[tuple[int]]) -> None:
        import ray
        import torch

        assert given == "shared" and len(tasks) == 5 and len(ray.get_gpu_ids()) == 1
        torch.cuda.mem_get_info = lambda: (75, 100)

    def task(given: str, number: int, report: Callable[[object], None]) -> int:
        import ray

        (tmp_path / str(number)).touch()
        deadline = time.monotonic() + 60
        while number < 3 and len(list(tmp_path.iterdir())) < 3:
            assert time.monotonic() < deadline, "three actors did not work at the same time"
            time.sleep(0.05)
        return len(ray.get_gpu_ids())

    heard: list[str] = []
    packed = ComputeConfig(gpus_per_actor="auto", num_actors=1)
    tasks = [(number,) for number in range(5)]
    outcomes = list(
        run_tasks(
            task,
            tasks,
            shared=("shared",),
            compute=packed,
            on_report=heard.append,
            memory_probe=memory_probe,
        )
    )
    assert sorted(o.task for o in outcomes) == tasks and all(o.result == 1 for o in outcomes)
    assert heard == ["an actor takes 2.3e-08 of a GPU's 9.3e-08 GiB: 3 actors, 3 to a GPU"]


def test_a_single_task_gets_a_whole_gpu_without_a_probe() -> None:
    def task(report: Callable[[object], None]) -> float:
        import ray

        return ray.get_runtime_context().get_assigned_resources()["GPU"]

    alone = ComputeConfig(gpus_per_actor="auto")
    (outcome,) = run_tasks(
        task, [()], shared=(), compute=alone, on_report=print, memory_probe=lambda tasks: 1 / 0
    )
    assert outcome.result == 1
