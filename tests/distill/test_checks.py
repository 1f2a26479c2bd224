"""Checks on held-out images: what they record, which set they keep, and that resuming is exact."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checks import Checks, read_checks
from ltdd_ray.distill.trajectory.loop import distill
from ltdd_ray.evaluate.held_out import make_checks
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import missing_experts

Tiny = Callable[..., RunConfig]
SCORES = {0: 0.5, 3: 0.6, 6: 0.4, 9: 0.6, 12: 0.45}


@pytest.fixture(scope="module")
def config(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A tiny run with held-out images whose experts are trained; 12 updates."""
    folder = tmp_path_factory.mktemp("checks")
    config = tiny(folder)
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"validation_fraction": 0.3})}
    )
    data = prepare_data(config)
    for expert in missing_experts(config, data.train):
        run_expert(config, data, expert, lambda report: None)
    return config


@pytest.fixture(scope="module")
def data(config: RunConfig) -> PreparedData:
    return prepare_data(config)


class Run:
    """A distillation with checks every three updates, whose scores are given."""

    def __init__(self, config: RunConfig, data: PreparedData, folder: Path) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.sentences: list[str] = []

    def __call__(
        self,
        keep: Literal["last", "best"],
        scores: dict[int, float] = SCORES,
        resume_from: Path | None = None,
        stop_after: int | None = None,
    ) -> DistilledSet:
        def on_checkpoint(write: Callable[[Path], None], update: int) -> None:
            (self.folder / str(update)).mkdir(exist_ok=True)
            write(self.folder / str(update))
            if update == stop_after:
                raise KeyboardInterrupt

        checks = Checks(
            self.folder,
            lambda found: scores[found.provenance["update"]],
            engine=self.config.distill.engine,
            every=3,
            keep=keep,
            done=int(resume_from.name) if resume_from else 0,
            say=self.sentences.append,
        )
        return distill(
            self.config,
            self.data,
            on_update=lambda report, synthetic: None,
            on_checkpoint=on_checkpoint,
            on_initial=lambda found, sentences: None,
            resume_from=resume_from,
            checks=checks,
        )


@pytest.fixture
def run(config: RunConfig, data: PreparedData, tmp_path: Path) -> Run:
    return Run(config, data, tmp_path)


def test_the_last_set_is_kept_unless_the_best_is_asked_for(run: Run) -> None:
    last = run("last")
    assert last.provenance["update"] == 12
    assert [line["update"] for line in read_checks(run.folder)] == [0, 3, 6, 9, 12]
    assert [line["held_out_accuracy"] for line in read_checks(run.folder)] == list(SCORES.values())
    assert "below its own start" in run.sentences[-1] and "distill.lr_label" in run.sentences[-1]
    best = run("best")
    assert best.provenance["update"] == 3  # the first of equals
    assert best.provenance["held_out_accuracy"] == 0.6
    assert not torch.equal(best.images, last.images)
    assert run.sentences[-1] == "kept the set after update 3"


def test_the_initial_set_is_kept_where_no_update_helps(run: Run) -> None:
    found = run("best", {0: 0.5, 3: 0.4, 6: 0.4, 9: 0.4, 12: 0.4})
    assert found.provenance["update"] == 0


def test_a_set_above_its_start_gets_no_warning(run: Run) -> None:
    run("last", {**SCORES, 12: 0.55})
    assert not any("below its own start" in sentence for sentence in run.sentences)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_killed_run_ends_as_an_undisturbed_one(
    config: RunConfig, data: PreparedData, tmp_path: Path, keep: Literal["last", "best"]
) -> None:
    """Killed before the checkpoint of update 9 counts: its check, a new best, is made again."""
    scores = {0: 0.5, 3: 0.4, 6: 0.4, 9: 0.7, 12: 0.6}
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
    whole = Run(config, data, folders[0])(keep, scores)
    killed = Run(config, data, folders[1])
    with pytest.raises(KeyboardInterrupt):
        killed(keep, scores, stop_after=9)
    found = killed(keep, scores, resume_from=folders[1] / "6")
    assert torch.equal(found.images, whole.images) and found.provenance == whole.provenance
    lines = [
        [(line["update"], line["held_out_accuracy"]) for line in read_checks(folder)]
        for folder in folders
    ]
    assert lines[0] == lines[1] == list(scores.items())


@pytest.mark.parametrize(("done", "checked"), [(12, []), (6, [9, 12])])
@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_run_whose_checks_were_deleted_says_nothing_of_them(
    run: Run, keep: Literal["last", "best"], done: int, checked: list[int]
) -> None:
    """As the error over a damaged file advises."""
    with pytest.raises(KeyboardInterrupt):
        run(keep, stop_after=done)
    (run.folder / "checks.jsonl").unlink()
    run.sentences.clear()
    run(keep, resume_from=run.folder / str(done))
    assert [line["update"] for line in read_checks(run.folder)] == checked
    assert not any("at the start" in one or "below its own" in one for one in run.sentences)


@pytest.mark.parametrize("done", [6, 12])
def test_a_run_whose_best_set_was_deleted_is_refused(run: Run, done: int) -> None:
    """With updates left it would end in a worse set, and without any in none."""
    with pytest.raises(KeyboardInterrupt):
        run("best", stop_after=done)
    (run.folder / "best.safetensors").unlink()
    with pytest.raises(UserError, match=rf"best\.safetensors: missing, .* first {done} updates"):
        run("best", resume_from=run.folder / str(done))


def test_a_cut_line_is_left_out(tmp_path: Path) -> None:
    line = json.dumps({"update": 3, "held_out_accuracy": 0.5, "seconds": 1.0})
    (tmp_path / "checks.jsonl").write_text(line + "\n" + line[:10])
    assert len(read_checks(tmp_path)) == 1


@pytest.mark.parametrize(
    "line", ["no JSON", "[1]", "{}", '{"update": 3, "held_out_accuracy": "high"}', "[" * 100_000]
)
def test_altered_checks_are_one_sentence(tmp_path: Path, line: str) -> None:
    (tmp_path / "checks.jsonl").write_text(f"{line}\n")
    with pytest.raises(UserError, match=r"checks\.jsonl: not readable as checks .*delete the file"):
        read_checks(tmp_path)


def test_the_real_score_is_measured_on_held_out_images(
    config: RunConfig, data: PreparedData, run: Run
) -> None:
    """A set that is right about every class scores above one whose labels are shifted by one."""
    settings = config.distill.model_copy(
        update={"checks": config.distill.checks.model_copy(update={"every": 6, "epochs": 30})}
    )
    checked = config.model_copy(update={"distill": settings})
    checks = make_checks(checked, data, 0, run.sentences.append)
    assert checks is not None
    labels = torch.tensor(data.train.labels)
    right = replace(
        run("last"),
        images=data.normalisation.apply(torch.tensor(data.train.images)),
        soft_labels=torch.eye(10)[labels],
        classes=labels,
        learning_rate=0.1,
    )
    wrong = replace(right, soft_labels=right.soft_labels.roll(1, 1))
    checks.run(0, right)
    checks.run(6, wrong)
    scores = [line["held_out_accuracy"] for line in read_checks(config.folder / "distilled")]
    assert scores[0] > 0.4 > 0.2 > scores[1]
    assert make_checks(config, data, 0, run.sentences.append) is None


def test_checks_need_held_out_images(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checks.every 5 needs held-out .*validation_fraction"):
        tiny(tmp_path, distill={"ipc": 1, "engine": "dm", "checks": {"every": 5}})
    with pytest.raises(UserError, match=r"keep best needs distill\.checks\.every"):
        tiny(tmp_path, distill={"ipc": 1, "engine": "dm", "keep": "best"})
