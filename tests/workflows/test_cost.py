from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.data.load import load_data
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.workflows import cost as module
from ltdd_ray.workflows.cost import Estimate, estimate


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every timed piece of work is done, once, and takes one second."""

    def second(work: Callable[[], object]) -> float:
        work()
        return 1.0

    monkeypatch.setattr(module, "_seconds", second)
    monkeypatch.setattr(module, "prepare_process", lambda threads: None)


def test_pieces_are_multiplied_by_how_often_they_come(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None
) -> None:
    config = tiny(tmp_path, compute={"num_actors": 1, "num_workers": 1})
    long = config.distill.representation.model_copy(update={"syn_steps": 6})
    config = config.model_copy(
        update={"distill": config.distill.model_copy(update={"representation": long})}
    )
    splits = load_data(config.data, config.seed)
    found = estimate(config, splits)
    batches, largest = -(-len(splits.train) // 32), int(splits.train.class_counts.max())
    # Three experts: 6 epochs of so many batches, and 3 epochs of C n_max images at a second per 40, a round of its sampler.
    assert found.seconds["experts"] == pytest.approx(3 * (6 * batches + 3 * 10 * largest / 40))
    # 12 updates of two segments; two steps are timed, the phases have six and two.
    assert found.seconds["distill"] == 12 * 2 * (3 + 1)
    # Four networks of four epochs.
    assert found.seconds["evaluate"] == 2 * 2 * 4
    assert found.processes == 1 and found.process_bytes > 10**7


def test_stages_that_are_not_needed_cost_nothing(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None
) -> None:
    config = tiny(tmp_path, evaluate={"networks": 2, "epochs": 4, "sets": ["random"]})
    found = estimate(config, load_data(config.data, config.seed))
    assert found.seconds.keys() == {"evaluate"} and found.store_bytes == 0


def test_work_is_shared_by_as_many_as_have_a_core(
    tmp_path: Path, tiny: Callable[..., RunConfig], monkeypatch
) -> None:
    monkeypatch.setattr(module, "describe_hardware", lambda: {"cores": 4})
    assert [
        module._at_once(wanted, 0, threads)
        for wanted, threads in ((1, 1), (3, 1), (8, 1), (8, 2), (8, 16))
    ] == [1, 3, 4, 2, 1]


def test_packed_actors_count_as_one_a_gpu(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None, monkeypatch
) -> None:
    config = tiny(tmp_path, compute={"num_actors": 1, "num_workers": 1, "gpus_per_actor": "auto"})
    splits = load_data(config.data, config.seed)
    monkeypatch.setattr(module, "describe_hardware", lambda: {"cores": 4, "memory": 2**33})
    assert estimate(config, splits).processes == 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert estimate(config, splits).processes == 3


def test_disk_is_what_the_store_takes(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None
) -> None:
    config = tiny(tmp_path, model={"width": 24, "depth": 2})
    run_expert(config, prepare_data(config), 0, lambda report: None)
    written = sum(file.stat().st_size for file in (config.folder / "experts").glob("*.arrow"))
    expected = (
        estimate(config, load_data(config.data, config.seed)).store_bytes / config.experts.count
    )
    assert expected == pytest.approx(written, rel=0.1)


def test_too_little_memory_is_said_with_the_remedy() -> None:
    roomy = Estimate({"experts": 90, "distill": 4000}, 2, 2**30, 2**33, 2**20)
    assert roomy.sentences() == [
        "time here: about 1 h 8 min (experts 1 min 30 s, distill 1 h 6 min), and some seconds to start each stage",
        "memory: about 1.0 GiB in each of 2 processes, of 8.0 GiB",
        "disk: 1 MiB of expert trajectories",
    ]
    tight = Estimate({"experts": 90}, 9, 2**30, 2**33, 2**20)
    assert "of 8.0 GiB; more than there is: lower compute.num_actors" in tight.sentences()[1]
