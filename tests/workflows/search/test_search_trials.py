"""Trials in this process: exact resume, reports sent again, and the files of the results."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import Dimension, RunConfig
from ltdd_ray.config.loading import load_config
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.workflows.search import trial
from ltdd_ray.workflows.search.evaluator import search_data
from ltdd_ray.workflows.search.results import write_results
from ltdd_ray.workflows.search.space import own_values
from ltdd_ray.workflows.search.trial import Status, TrialFolder, TrialReport, run_trial

VALUES = {"distill.lambda_rep": 0.5, "distill.lambda_cls": 1.0}
SPACE = {key: {"low": 0.1, "high": 5, "log": True} for key in VALUES}


@pytest.fixture(scope="module")
def config(tiny: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A tiny search whose experts are trained."""
    search = {"space": SPACE, "report_every": 3, "updates": 9, "epochs": 2}
    config = tiny(tmp_path_factory.mktemp("search"), search=search)
    data = search_data(config)
    for expert in missing_experts(config, data.train):
        run_expert(config, data, expert, lambda report: None)
    return config


@pytest.fixture(scope="module")
def data(config: RunConfig) -> PreparedData:
    return search_data(config)


class Killed(Exception):
    pass


def kill_after(count: int, heard: list[TrialReport]) -> Callable[[TrialReport], None]:
    def on_report(report: TrialReport) -> None:
        heard.append(report)
        if len(heard) == count:
            raise Killed

    return on_report


def test_a_killed_trial_resumes_exactly(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    whole, cut = (
        TrialFolder.create(tmp_path / name, config, data, 0, VALUES) for name in ("whole", "cut")
    )
    heard: list[TrialReport] = []
    run_trial(config, data, whole, heard.append)
    assert [report.update for report in heard] == [3, 6, 9] and all(
        0 < report.score < 1 and report.standard_error > 0 for report in heard
    )

    with pytest.raises(Killed):
        run_trial(config, data, cut, kill_after(2, []))
    again: list[TrialReport] = []
    run_trial(config, data, cut, again.append)
    assert again == heard == cut.reports
    state = "state.safetensors"
    assert cut.checkpoint and whole.checkpoint
    assert (cut.checkpoint / state).read_bytes() == (whole.checkpoint / state).read_bytes()
    assert [entry.name for entry in cut.path.iterdir() if entry.is_dir()] == ["update-0000009"]


def test_a_finished_trial_only_sends_its_reports_again(
    config: RunConfig, data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TrialFolder.create(tmp_path, config, data, 0, VALUES)
    run_trial(config, data, folder, lambda report: None)
    monkeypatch.setattr(trial, "distill", None)
    heard: list[TrialReport] = []
    run_trial(config, data, folder, heard.append)
    assert [report.update for report in heard] == [3, 6, 9]


def test_a_kill_while_a_checkpoint_is_written_keeps_the_old_one(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    folder = TrialFolder.create(tmp_path, config, data, 0, VALUES)

    def cut_short(draft: Path) -> None:
        (draft / "state.safetensors").write_text("half")
        raise Killed

    folder.keep(lambda draft: None, [TrialReport(3, 0.5)])
    with pytest.raises(Killed):
        folder.keep(cut_short, [TrialReport(3, 0.5), TrialReport(6, 0.6)])
    assert folder.reports == [TrialReport(3, 0.5)]
    folder.keep(lambda draft: None, [TrialReport(3, 0.5), TrialReport(6, 0.7)])
    assert folder.reports[-1] == TrialReport(6, 0.7) and not (folder.path / ".draft").exists()


def test_a_trial_that_is_asked_to_stop_ends_at_its_next_report(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    folder = TrialFolder.create(tmp_path, config, data, 0, VALUES)
    heard: list[TrialReport] = []

    def on_report(report: TrialReport) -> None:
        heard.append(report)
        if report.update == 6:
            folder.ask_to_stop()

    run_trial(config, data, folder, on_report)
    assert [report.update for report in heard] == [3, 6]


def test_a_diverged_trial_ends_with_score_0(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    settings = config.distill.model_copy(update={"lr_image": 1e30, "largest_image_step": 1e30})
    wild = config.model_copy(update={"distill": settings})
    heard: list[TrialReport] = []
    run_trial(wild, data, TrialFolder.create(tmp_path, wild, data, 0, VALUES), heard.append)
    assert (
        heard[-1].diverged
        and heard[-1].score == 0
        and not any(report.diverged for report in heard[:-1])
    )


def test_trials_of_another_search_are_not_known(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    first = TrialFolder.create(tmp_path, config, data, 0, VALUES)
    TrialFolder.create(tmp_path, config, data, 1, {**VALUES, "distill.lambda_rep": 2.0})
    assert [folder.number for folder in TrialFolder.known(tmp_path, config, data)] == [0, 1]
    other = config.model_copy(update={"seed": 4})
    assert TrialFolder.known(tmp_path, other, search_data(other)) == []
    (first.path / "params.json").write_text(
        json.dumps({"number": 0, "values": {"distill.lambda_rep": 1.0}})
    )
    assert [folder.number for folder in TrialFolder.known(tmp_path, config, data)] == [1]


@pytest.mark.parametrize("content", ["{", "[1]", '{"number": 0}', '{"colour": 1}', "[" * 100_000])
def test_altered_files_of_a_trial_are_one_sentence(
    config: RunConfig, data: PreparedData, tmp_path: Path, content: str
) -> None:
    folder = TrialFolder.create(tmp_path, config, data, 0, VALUES)
    (folder.path / "outcome.json").write_text(content)
    with pytest.raises(UserError, match=r"outcome\.json: not readable as a part of a trial"):
        _ = folder.outcome
    (folder.path / "params.json").write_text(content)
    with pytest.raises(UserError, match=r"params\.json: not readable as a part of a trial"):
        TrialFolder.known(tmp_path, config, data)


def test_the_results_of_a_search_are_complete(
    config: RunConfig, data: PreparedData, tmp_path: Path
) -> None:
    ends = [("stopped", 3, 0.9), ("finished", 9, 0.7), ("diverged", 6, 0.0), ("finished", 9, 0.8)]
    trials = []
    for number, (status, update, score) in enumerate(ends):
        values = {"distill.lambda_rep": 0.5 + number, "distill.lambda_cls": 1.0}
        trials.append(TrialFolder.create(tmp_path / "trials", config, data, number, values))
        trials[-1].keep(lambda draft: None, [TrialReport(update, score)])
        trials[-1].end(status, TrialReport(update, score))
    table = write_results(config, trials, tmp_path)
    assert table.row_count == 4
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert [row["trial"] for row in rows] == ["3", "1", "0", "2"]
    best = load_config(tmp_path / "best.yaml")
    assert best.distill.lambda_rep == 3.5 and best.name == "tiny-best"
    assert best.distill.updates == config.distill.updates and best.experts == config.experts
    assert (tmp_path / "trials.png").read_bytes().startswith(b"\x89PNG")

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_results(config, trials, tmp_path)  # a second time adds nothing
    assert len(list((tmp_path / "tensorboard" / "trial-003").iterdir())) == 1
    events = EventAccumulator(str(tmp_path / "tensorboard" / "trial-003")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("score")] == [
        (9, pytest.approx(0.8))
    ]
    assert (
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"
    )

    with pytest.raises(UserError, match="every trial of the search diverged"):
        write_results(config, trials[2:3], tmp_path)


@pytest.mark.parametrize(
    ("own_status", "error", "chosen", "why"),
    [
        ("finished", 0.2, 0, "within its standard error of 20.0; raise search.validation_fraction"),
        ("finished", 0.05, 1, "10.0 points ahead of the config's own values"),
        ("diverged", 0.2, 1, "own values diverged"),
        ("stopped", 0.2, 1, "own values, whose trial was stopped after 3 updates"),
    ],
)
def test_the_configs_own_values_are_kept_unless_another_is_clearly_better(
    config: RunConfig,
    data: PreparedData,
    tmp_path: Path,
    own_status: Status,
    error: float,
    chosen: int,
    why: str,
) -> None:
    own = own_values(config)
    assert own == {
        "distill.lambda_rep": config.distill.lambda_rep,
        "distill.lambda_cls": config.distill.lambda_cls,
    }
    assert own is not None
    trials = [
        TrialFolder.create(tmp_path, config, data, number, values)
        for number, values in enumerate([own, VALUES])
    ]
    trials[0].end(own_status, TrialReport(3 if own_status == "stopped" else 9, 0.7, 0.0))
    trials[1].end("finished", TrialReport(9, 0.8, error))
    table = write_results(config, trials, tmp_path)
    best = load_config(tmp_path / "best.yaml")
    assert best.distill.lambda_rep == trials[chosen].values["distill.lambda_rep"]
    for place in (str(table.caption), (tmp_path / "best.yaml").read_text()):
        assert f"rial {chosen}" in place and why in place


@pytest.mark.parametrize(
    ("space", "why"),
    [
        ({"distill.lambda_rep": {"low": 3, "high": 4}}, "which are outside search.space"),
        (
            {"distill.lambda_rep": {"low": 0.1, "high": 5}},
            "which were not tried; raise search.trials",
        ),
    ],
)
def test_a_search_without_the_configs_own_values_says_so(
    config: RunConfig, data: PreparedData, tmp_path: Path, space: dict, why: str
) -> None:
    dimensions = {key: Dimension(**dimension) for key, dimension in space.items()}
    config = config.model_copy(
        update={"search": config.search.model_copy(update={"space": dimensions})}
    )
    trial = TrialFolder.create(tmp_path, config, data, 0, {"distill.lambda_rep": 3.5})
    trial.end("finished", TrialReport(9, 0.8, 0.1))
    assert why in " ".join(str(write_results(config, [trial], tmp_path).caption).split())


def test_values_outside_of_the_space_are_not_tried(config: RunConfig) -> None:
    def outside(dimension: dict) -> RunConfig:
        search = config.search.model_copy(
            update={"space": {"distill.lambda_rep": Dimension(**dimension)}}
        )
        return config.model_copy(update={"search": search})

    assert own_values(outside({"low": 3, "high": 4})) is None
    assert own_values(outside({"choices": [0.25, 0.5]})) is None
    assert own_values(outside({"choices": [config.distill.lambda_rep]})) is not None
