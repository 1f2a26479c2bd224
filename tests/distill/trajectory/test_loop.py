"""The loop in plain processes: exact resumption, any number of workers, a stop on bad numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel

from ltdd_ray.common.errors import NonFiniteLossError, UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checkpoint import STATE
from ltdd_ray.distill.metrics_log import UpdateReport
from ltdd_ray.distill.trajectory.loop import distill
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import expert_network, missing_experts
from ltdd_ray.store import TrajectoryStore

Tiny = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def config(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A tiny run whose experts are trained."""
    config = tiny(tmp_path_factory.mktemp("plain"))
    data = prepare_data(config)
    for expert in missing_experts(config, data.train):
        run_expert(config, data, expert, lambda report: None)
    return config


@pytest.fixture(scope="module")
def data(config: RunConfig) -> PreparedData:
    return prepare_data(config)


class Recorder:
    """Records the callbacks of the loop; each checkpoint has a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports: list[UpdateReport] = []
        self.initial: DistilledSet | None = None

    def run(self, config: RunConfig, data: PreparedData, **settings) -> DistilledSet:
        return distill(
            config,
            data,
            on_update=self._update,
            on_checkpoint=self._checkpoint,
            on_initial=self._initial,
            **settings,
        )

    def checkpoint(self, update: int) -> Path:
        return self.folder / f"update-{update}"

    def _update(self, report: UpdateReport, synthetic) -> None:
        self.reports.append(report)

    def _checkpoint(self, write, update: int) -> None:
        self.checkpoint(update).mkdir(parents=True)
        write(self.checkpoint(update))

    def _initial(self, initial: DistilledSet, said: list[str]) -> None:
        self.initial = initial


def changed(config: RunConfig, **settings) -> RunConfig:
    return config.model_copy(update={"distill": config.distill.model_copy(update=settings)})


@pytest.mark.parametrize("side", [1, 2])
def test_learns_all_three_and_resumes_exactly(
    config: RunConfig, data: PreparedData, tmp_path: Path, side: int
) -> None:
    config = changed(config, pictures_per_side=side)
    whole, rest = Recorder(tmp_path / "whole"), Recorder(tmp_path / "rest")
    final = whole.run(config, data)
    assert [r.update for r in whole.reports] == list(range(1, 13))
    assert whole.initial is not None
    known = {
        "method": "ltdd",
        "dataset": "digits",
        "imbalance_factor": 134 / 13,
        "images_per_class": [2] * 10,
        "pictures_per_image": side**2,
        "seed": 3,
        "update": 12,
    }
    assert known.items() <= final.provenance.items()
    assert final.class_counts == tuple(data.train.class_counts) and {"torch", "ltdd-ray"} <= set(
        final.provenance["versions"]
    )
    assert final.images.shape == (20, 1, 8, 8) and final.soft_labels.shape == (20 * side**2, 10)
    assert not torch.equal(final.images, whole.initial.images)
    assert not torch.equal(final.soft_labels, whole.initial.soft_labels)
    assert final.learning_rate != whole.initial.learning_rate

    resumed = rest.run(config, data, resume_from=whole.checkpoint(6))
    assert [r.update for r in rest.reports] == list(range(7, 13))
    assert rest.initial is None
    assert rest.reports == whole.reports[6:]
    assert torch.equal(resumed.images, final.images) and torch.equal(
        resumed.soft_labels, final.soft_labels
    )
    assert resumed.learning_rate == final.learning_rate
    assert (rest.checkpoint(12) / STATE).read_bytes() == (whole.checkpoint(12) / STATE).read_bytes()


def test_a_checkpoint_that_is_wanted_is_written_at_once_and_resumes_exactly(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    whole, rest = Recorder(tmp_path / "whole"), Recorder(tmp_path / "rest")
    asked_after: list[int] = []

    def wanted() -> bool:
        asked_after.append(whole.reports[-1].update)
        return asked_after[-1] == 5

    final = whole.run(config, data, wants_checkpoint=wanted)
    assert asked_after == [1, 2, 4, 5, 7, 8, 10, 11]  # 3, 6, 9 and 12 have checkpoints anyway
    written = {folder.name for folder in whole.folder.iterdir()}
    assert written == {f"update-{update}" for update in (3, 5, 6, 9, 12)}
    resumed = rest.run(config, data, resume_from=whole.checkpoint(5))
    assert rest.reports == whole.reports[5:] and torch.equal(resumed.images, final.images)


def test_the_objective_falls(config: RunConfig, data: PreparedData, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    phase = config.distill.representation
    first = phase.model_copy(
        update={"start_epochs": phase.start_epochs.model_copy(update={"max": 0}), "syn_steps": 5}
    )
    recorder.run(changed(config, representation=first, updates=30, syn_lr=0.05), data)
    losses = [r.metrics["loss/total"] for r in recorder.reports]
    assert sum(losses[-5:]) < sum(losses[:5])


# compute.parallel, distill.segments_per_update, distill.pictures_per_side
CASES = [
    ("trajectory", 2, 1),
    ("trajectory", 3, 1),
    ("batch", 1, 1),
    ("trajectory", 2, 2),
    ("batch", 1, 2),
]


def case_config(config: RunConfig, parallel: str, segments: int, side: int) -> RunConfig:
    phase = config.distill.representation.model_copy(
        update={"batch_size": 7}
    )  # 3 + 4 of the 20 images
    settings = {"pictures_per_side": side, "segments_per_update": segments, "updates": 4}
    case = changed(config, **settings, checkpoint_every=2, representation=phase)
    return case.model_copy(
        update={"compute": config.compute.model_copy(update={"parallel": parallel})}
    )


def in_process(rank: int, config: RunConfig, folder: Path) -> None:
    """All cases one after another, each in a folder of its own."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "rendezvous"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for number, case in enumerate(CASES):
        case = case_config(config, *case)
        recorder = Recorder(folder / str(number) / str(rank))
        found = recorder.run(
            case, prepare_data(case), rank=rank, world_size=2, wrap=DistributedDataParallel
        )
        if rank == 0:
            found.save(folder / str(number))
        assert (recorder.initial is not None) == (rank == 0)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def by_two_workers(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes wrote; they are started once, since each imports torch."""
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(in_process, (config, folder), nprocs=2)
    return folder


def assert_close(found: DistilledSet, expected: DistilledSet) -> None:
    torch.testing.assert_close(found.images, expected.images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.soft_labels, expected.soft_labels, rtol=1e-4, atol=1e-5)
    assert found.learning_rate == pytest.approx(expected.learning_rate, rel=1e-5)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_workers_take_the_steps_of_one(
    config: RunConfig, data: PreparedData, tmp_path: Path, by_two_workers: Path, number: int
) -> None:
    """Also where one worker is lost: the other resumes and gets the same set."""
    case, folder = case_config(config, *CASES[number]), by_two_workers / str(number)
    two, one = DistilledSet.load(folder), Recorder(tmp_path / "one").run(case, data)
    assert_close(two, one)
    carried_on = Recorder(tmp_path / "rest").run(case, data, resume_from=folder / "0" / "update-2")
    assert_close(carried_on, one)


def test_a_rate_that_does_not_fit_makes_short_steps(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    """With lr_image and lr_syn_lr a million times too large, steps stay within their limits."""
    wild = changed(config, lr_image=1e7, lr_syn_lr=1e5, momentum_image=0.0, momentum_syn_lr=0.0)
    recorder = Recorder(tmp_path / "limited")
    assert torch.isfinite(recorder.run(wild, data).images).all()
    steps = [report.metrics["update_rms/images"] for report in recorder.reports]
    assert (
        0.99 * wild.distill.largest_image_step
        < max(steps)
        <= 1.0001 * wild.distill.largest_image_step
    )
    rates = torch.tensor([report.metrics["syn_lr"] for report in recorder.reports]).log()
    assert float(rates.diff().abs().max()) <= wild.distill.largest_rate_step * 1.001
    with pytest.raises(NonFiniteLossError):
        Recorder(tmp_path / "free").run(
            changed(wild, largest_image_step=1e30, largest_rate_step=1e30), data
        )


def test_a_bad_number_stops_before_the_update_and_names_its_origin(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path)
    with pytest.raises(
        NonFiniteLossError,
        match=r"update \d+: the representation phase is not finite .*expert \d, start epoch \d",
    ):
        recorder.run(
            changed(config, lr_image=1e30, largest_image_step=1e30, checkpoint_every=1), data
        )
    kept = load_file(recorder.checkpoint(len(recorder.reports)) / STATE)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())


def test_one_term_alone(config: RunConfig, data: PreparedData, tmp_path: Path) -> None:
    """DATM's settings: the whole network against the representation expert, and its labels."""
    phase = config.distill.representation.model_copy(update={"scope": "all"})
    settings = {
        "representation": phase,
        "lambda_cls": 0.0,
        "label_expert": "representation",
        "updates": 2,
    }
    recorder = Recorder(tmp_path)
    recorder.run(changed(config, **settings), data)
    assert {"loss/total", "loss/representation"} <= set(recorder.reports[0].metrics)
    assert "loss/classifier" not in recorder.reports[0].metrics


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": {"width": 5, "depth": 2}}, "architecture|layout"),
        ({"seed": 4}, "dataset|config"),
        ({"augmentation": "color"}, "config"),
    ],
)
def test_a_store_made_for_something_else_is_refused(
    config: RunConfig, tiny: Tiny, tmp_path: Path, change: dict, complaint: str
) -> None:
    other = tiny(
        tmp_path, **{"experts": {**config.experts.model_dump(), "store": config.store_uri}} | change
    )
    with pytest.raises(UserError, match=complaint):
        missing_experts(other, prepare_data(other).train)


def test_hard_labels_stay_hard_on_images_chosen_at_random(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path)
    hard = changed(config, initial_labels="one_hot", lr_label=5.0, updates=3)
    found = recorder.run(hard, data)
    expected = torch.nn.functional.one_hot(found.classes, data.train.num_classes).float()
    assert recorder.initial is not None
    assert torch.equal(recorder.initial.soft_labels, expected) and torch.equal(
        found.soft_labels, expected
    )
    assert (
        recorder.reports[-1].metrics["label_entropy"]
        == 0
        == recorder.reports[-1].metrics["grad_norm/labels"]
    )
    assert (
        not torch.equal(found.images, recorder.initial.images)
        and found.learning_rate != recorder.initial.learning_rate
    )


def test_labels_describe_the_pictures_not_the_images_they_were_made_from(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    """Initial logits are those of the experts that are right, on the decoded pictures."""
    recorder = Recorder(tmp_path)
    recorder.run(changed(config, pictures_per_side=2, updates=1), data)
    initial = recorder.initial
    assert initial is not None
    flat, store = expert_network(config, data.train, 0), TrajectoryStore.open(config.store_uri)
    logits = []
    for expert in range(config.experts.count):
        end = store.segment(expert, "classifier", 3, 3)
        theta = torch.cat([end.start_backbone, end.start_classifier])
        logits.append(flat.logits(theta, initial.pictures))
    right = torch.stack([one.argmax(-1) == initial.classes for one in logits])
    alone = right.sum(0) == 1  # where one expert is right, the label is its own
    assert int(alone.sum()) > 1
    for picture in torch.nonzero(alone).flatten().tolist():
        expert = int(right[:, picture].int().argmax())
        expected = logits[expert][picture].softmax(-1)
        torch.testing.assert_close(initial.soft_labels[picture], expected, rtol=1e-4, atol=1e-5)


def initial_logits(
    config: RunConfig, data: PreparedData, found: DistilledSet
) -> list[torch.Tensor]:
    """Logits of each classifier expert at its last epoch on the pictures of ``found``."""
    flat, store = expert_network(config, data.train, 0), TrajectoryStore.open(config.store_uri)
    ends = [store.segment(n, "classifier", 3, 3) for n in range(config.experts.count)]
    thetas = [torch.cat([end.start_backbone, end.start_classifier]) for end in ends]
    return [flat.logits(theta, found.pictures) for theta in thetas]


@pytest.mark.parametrize("images", ["first_expert", "random", "noise"])
@pytest.mark.parametrize("side", [1, 2])
def test_the_published_starts(
    config: RunConfig, data: PreparedData, tmp_path: Path, images: str, side: int
) -> None:
    recorder = Recorder(tmp_path)
    start = {"initial_images": images, "initial_label_rule": "one_expert", "updates": 1}
    recorder.run(changed(config, **start, pictures_per_side=side), data)
    found = recorder.initial
    assert found is not None and found.images.shape == (20, 1, 8, 8)
    logits = initial_logits(config, data, found)[0]
    if images != "first_expert":  # whose repeats are augmented after they got their label
        torch.testing.assert_close(found.soft_labels, logits.softmax(-1), rtol=1e-4, atol=1e-5)
    if images == "noise":
        assert abs(float(found.images.std()) - 1) < 0.1
    if side == 2:
        return
    real = data.normalisation.apply(torch.tensor(data.train.images))
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(found.images.flatten(1), real.flatten(1), compute_mode=exact)
    shown = distance.amin(1) < 1e-5
    assert int(shown.sum()) >= (20 if images == "random" else 10 if images != "noise" else 0)
    assert images != "noise" or not bool(shown.any())
    if images == "first_expert":
        end = TrajectoryStore.open(config.store_uri).segment(0, "classifier", 3, 3)
        theta = torch.cat([end.start_backbone, end.start_classifier])
        flat, labels = expert_network(config, data.train, 0), torch.tensor(data.train.labels)
        right = flat.logits(theta, real).argmax(-1) == labels
        possible = torch.bincount(labels[right], minlength=10) > 0
        judged = shown & possible[found.classes]
        assert bool(judged.any()) and not bool(possible.all())
        assert torch.equal(logits.argmax(-1)[judged], found.classes[judged])


def test_updates_with_a_loss_above_the_limit_are_skipped(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    """Above every loss the limit changes nothing, below every loss it keeps the initial set."""
    free, high, low = (Recorder(tmp_path / name) for name in ("free", "high", "low"))
    expected = free.run(changed(config, updates=3), data)
    found = high.run(changed(config, updates=3, skip_loss_above=1e9), data)
    kept = low.run(changed(config, updates=3, skip_loss_above=1e-9), data)
    assert torch.equal(found.images, expected.images) and low.initial is not None
    assert torch.equal(kept.images, low.initial.images)
    assert torch.equal(kept.soft_labels, low.initial.soft_labels)
    assert kept.learning_rate == low.initial.learning_rate
    assert [report.metrics["skipped"] for report in high.reports] == [0, 0, 0]
    assert [report.metrics["skipped"] for report in low.reports] == [1, 1, 1]
    assert "skipped" not in free.reports[0].metrics


def test_an_update_is_skipped_for_its_largest_phase(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    free, limited = Recorder(tmp_path / "free"), Recorder(tmp_path / "limited")
    free.run(changed(config, updates=1), data)
    metrics = free.reports[0].metrics
    losses = (metrics["loss/representation"], metrics["loss/classifier"])
    between = sum(losses) / 2
    limited.run(changed(config, updates=1, skip_loss_above=between), data)
    assert min(losses) < between < max(losses)
    assert limited.reports[0].metrics["skipped"] == 1
