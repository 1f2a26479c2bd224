from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import picture_budget
from ltdd_ray.data.load import load_data
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.distribution.dm import DistributionMatching
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.workflows import cost as module
from ltdd_ray.workflows.cost import CostEstimate, estimate_cost


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every timed piece of work is done once and takes one second."""

    def second(work: Callable[[], object]) -> float:
        work()
        return 1.0

    monkeypatch.setattr(module, "_seconds", second)
    monkeypatch.setattr(module, "prepare_process", lambda threads: None)


def test_timed_pieces_are_multiplied_by_their_number(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None
) -> None:
    config = tiny(tmp_path, compute={"num_actors": 1, "num_workers": 1})
    long = config.distill.representation.model_copy(update={"syn_steps": 6})
    config = config.model_copy(
        update={"distill": config.distill.model_copy(update={"representation": long})}
    )
    splits = load_data(config.data, config.seed)
    found = estimate_cost(config, splits)
    batches, largest = -(-len(splits.train) // 32), int(splits.train.class_counts.max())
    # Three experts: 6 epochs of all batches, and 3 epochs of C n_max images at 1 s per 40 images.
    assert found.seconds["experts"] == pytest.approx(3 * (6 * batches + 3 * 10 * largest / 40))
    # 12 updates of two segments; two steps are timed, the phases have six and two.
    assert found.seconds["distill"] == 12 * 2 * (3 + 1)
    # Four networks of four epochs.
    assert found.seconds["evaluate"] == 2 * 2 * 4
    assert found.processes == 1 and found.process_bytes > 10**7


@pytest.mark.parametrize(
    ("engine", "experts"), [("dc", False), ("dm", False), ("idm", False), ("tgdd", True)]
)
@pytest.mark.parametrize("budget", [{"ipc": 2}, {"ipc": None, "budget": {"images": 30}}])
def test_every_update_of_distribution_matching_is_counted(
    tmp_path: Path,
    tiny: Callable[..., RunConfig],
    tick: None,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    experts: bool,
    budget: dict,
) -> None:
    """Without a trajectory store, and with pictures and real batches of the sizes of the run."""
    distribution = {"updates": 40, "real_batch": 7, "snapshots": {"max": 3}}
    distill = {"engine": engine, "pictures_per_side": 2, "distribution": distribution, **budget}
    config, sizes = tiny(tmp_path, distill=distill), []
    step = DistributionMatching.step

    def watched(self, optimiser, update):
        sizes.append((len(self.pictures()), len(self.batches(update)[2])))
        return step(self, optimiser, update)

    monkeypatch.setattr(DistributionMatching, "step", watched)
    found = estimate_cost(config, load_data(config.data, config.seed))
    assert found.seconds["distill"] == 40 and ("experts" in found.seconds) == experts
    images = 20 if budget["ipc"] else 30
    assert sizes == [(images * 4, 10 * 7)]


@pytest.mark.parametrize(("updates", "crops"), [(40, 5), (0, 5), (40, 0)])
def test_the_start_of_rldd_is_counted(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None, updates: int, crops: int
) -> None:
    """Two networks of two batch norms, and the crops of one teacher; no expert is there yet."""
    distribution = {"updates": updates, "recovery": {"crops": crops}}
    experts = {"count": 2, "norm": "batch"}
    distill = {"ipc": 2, "engine": "rldd", "distribution": distribution}
    config = tiny(tmp_path, experts=experts, distill=distill)
    splits = load_data(config.data, config.seed)
    found = estimate_cost(config, splits)
    images = len(splits.train)
    passes = (2 * 2 + crops) * images / min(512, images)
    assert found.seconds["distill"] == pytest.approx(updates + passes)


@pytest.mark.parametrize("criterion", ["cross_entropy", "balanced_softmax", "debiased"])
def test_a_batch_smaller_than_the_number_of_classes_is_timed(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None, criterion: str
) -> None:
    stage = {"epochs": 6, "batch_size": 4, "sharpness": "none", "criterion": criterion}
    config = tiny(
        tmp_path,
        experts={"count": 1, "norm": "batch", "representation": stage},
        model={"width": 4, "depth": 2, "norm": "batch"},
    )
    splits = load_data(config.data, config.seed)
    assert splits.train.num_classes == 10
    assert estimate_cost(config, splits).seconds["experts"] > 0


def test_stages_that_are_not_needed_cost_nothing(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None
) -> None:
    config = tiny(tmp_path, evaluate={"networks": 2, "epochs": 4, "sets": ["random"]})
    found = estimate_cost(config, load_data(config.data, config.seed))
    assert found.seconds.keys() == {"evaluate"} and found.store_bytes == 0


def test_networks_on_all_images_and_of_other_architectures_are_counted(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None
) -> None:
    """An epoch takes a second; one on all images as many as these are more."""
    evaluate = {"networks": 1, "epochs": 4, "sets": ["random"]}
    config = tiny(tmp_path, evaluate=evaluate, compute={"num_actors": 1})
    splits = load_data(config.data, config.seed)
    assert estimate_cost(config, splits).seconds["evaluate"] == pytest.approx(4)
    more = {**evaluate, "models": [{"name": "alexnet"}]}
    config = tiny(tmp_path, evaluate=more, compute={"num_actors": 1})
    assert estimate_cost(config, splits).seconds["evaluate"] == pytest.approx(8)
    full = {**evaluate, "sets": ["random", "full_ce"], "full_data": {"epochs": 3}}
    config = tiny(tmp_path, evaluate=full, compute={"num_actors": 1})
    pictures = sum(picture_budget(config.distill, splits.train.class_counts.tolist()))
    whole = 3 * len(splits.train) / pictures
    assert estimate_cost(config, splits).seconds["evaluate"] == pytest.approx(4 + whole)


def test_whitening_is_counted(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fit_cost", lambda dim, count: (9.0, 2**30 * dim))
    config = tiny(tmp_path)
    splits = load_data(config.data, config.seed)
    plain = estimate_cost(config, splits)
    whitened = config.data.model_copy(update={"normalisation": "zca"})
    found = estimate_cost(config.model_copy(update={"data": whitened}), splits)
    assert found.seconds == {"whiten": 9.0, **plain.seconds}
    assert found.first_bytes == 2**36 and plain.first_bytes == 0
    assert "whitening: about 64.0 GiB of memory before the first stage" in found.sentences()
    assert not any("whitening" in sentence for sentence in plain.sentences())


def test_processes_at_once_are_limited_by_cores(
    tmp_path: Path, tiny: Callable[..., RunConfig], monkeypatch
) -> None:
    monkeypatch.setattr(module, "describe_hardware", lambda: {"cores": 4})
    assert [
        module._at_once(wanted, 0, threads)
        for wanted, threads in ((1, 1), (3, 1), (8, 1), (8, 2), (8, 16))
    ] == [1, 3, 4, 2, 1]


def test_actors_on_one_gpu_count_as_one(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None, monkeypatch
) -> None:
    config = tiny(tmp_path, compute={"num_actors": 1, "num_workers": 1, "gpus_per_actor": "auto"})
    splits = load_data(config.data, config.seed)
    monkeypatch.setattr(module, "describe_hardware", lambda: {"cores": 4, "memory": 2**33})
    assert estimate_cost(config, splits).processes == 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert estimate_cost(config, splits).processes == 3


def test_disk_is_the_size_of_the_store(
    tmp_path: Path, tiny: Callable[..., RunConfig], tick: None
) -> None:
    config = tiny(tmp_path, model={"width": 24, "depth": 2})
    run_expert(config, prepare_data(config), 0, lambda report: None)
    written = sum(file.stat().st_size for file in (config.folder / "experts").glob("*.arrow"))
    expected = (
        estimate_cost(config, load_data(config.data, config.seed)).store_bytes
        / config.experts.count
    )
    assert expected == pytest.approx(written, rel=0.1)


def test_too_little_memory_is_reported_with_the_remedy() -> None:
    roomy = CostEstimate({"experts": 90, "distill": 4000}, 2, 2**30, 2**33, 2**20)
    assert roomy.sentences() == [
        "time: about 1 h 8 min on this machine (experts 1 min 30 s, distill 1 h 6 min), "
        "and a few seconds to start each stage",
        "memory: about 1.0 GiB in each of 2 processes; this machine has 8.0 GiB",
        "disk: about 1 MiB for expert trajectories",
    ]
    tight = CostEstimate({"experts": 90}, 9, 2**30, 2**33, 2**20)
    assert "has 8.0 GiB, which is not enough: lower compute.num_actors" in tight.sentences()[1]
