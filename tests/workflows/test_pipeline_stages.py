"""When the artifact of a stage counts as finished: it is whole, and made from the run's inputs."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from reportkit import write_run

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig, result_fingerprint
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.provenance import provenance
from ltdd_ray.evaluate.feature_map import read_feature_map
from ltdd_ray.evaluate.plan import evaluation_identity, plan_networks
from ltdd_ray.evaluate.train import NetworkResult
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.heartbeat import Heartbeat
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.runs.tracking.trackers import Tracking
from ltdd_ray.workflows.pipeline import run
from ltdd_ray.workflows.stages import STAGES, RunContext, write_results


@pytest.fixture
def context(tiny: Callable[..., RunConfig], tmp_path: Path) -> RunContext:
    config = tiny(tmp_path)
    folder = RunFolder.open(config)
    output, heartbeat = TextOutput(quiet=True), Heartbeat(folder.path)
    tracking = Tracking(config, folder.path, print)
    return RunContext(config, prepare_data(config), folder, output, heartbeat, tracking)


@pytest.fixture
def made(context: RunContext) -> DistilledSet:
    data = context.data
    distilled = DistilledSet(
        images=torch.zeros(20, *data.train.image_shape),
        soft_labels=torch.eye(10).repeat(2, 1),
        classes=torch.arange(10).repeat(2),
        learning_rate=0.01,
        normalisation=data.normalisation,
        class_names=data.train.class_names,
        augmentation="",
        provenance=provenance(context.config, data.train, 3),
    )
    distilled.save(context.folder.distilled)
    return distilled


@pytest.mark.parametrize("missing", ["distilled.json", "distilled.safetensors"])
def test_a_set_counts_with_both_of_its_files(
    context: RunContext, made: DistilledSet, missing: str
) -> None:
    assert STAGES["distill"].finished(context)
    (context.folder.distilled / missing).unlink()
    assert not STAGES["distill"].finished(context)


def test_a_set_of_other_inputs_is_refused(context: RunContext, made: DistilledSet) -> None:
    seed = context.config.model_copy(update={"seed": 4})
    cut = context.config.data.model_copy(update={"imbalance_factor": 5})
    other = replace(context, data=prepare_data(seed.model_copy(update={"data": cut})))
    with pytest.raises(UserError, match=r"other training images \(dataset_fingerprint .*, now "):
        STAGES["distill"].finished(other)
    changed = replace(context, config=seed)
    with pytest.raises(UserError, match=r"another config \(config_hash .*delete .*to distil anew"):
        STAGES["distill"].finished(changed)
    evaluate = context.config.evaluate.model_copy(update={"sets": ("distilled_8bit",)})
    shown = replace(context, config=context.config.model_copy(update={"evaluate": evaluate}))
    assert STAGES["distill"].finished(shown), "the set is the same for other evaluations"
    older = made.provenance | {"config_hash": result_fingerprint(context.config)}
    replace(made, provenance=older).save(context.folder.distilled)
    assert STAGES["distill"].finished(context), "older versions recorded the hash of the run"
    names = ("another", *made.class_names[1:])
    replace(made, class_names=names).save(context.folder.distilled)
    with pytest.raises(UserError, match="was made from other classes; restore"):
        STAGES["distill"].finished(context)


def test_results_of_replaced_networks_are_written_anew(
    context: RunContext, made: DistilledSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltdd_ray.evaluate.plan.NetworkRecord.read", lambda record: True)
    results = context.folder.results
    planned = plan_networks(context.config, context.data, context.folder.path)
    identity = evaluation_identity(planned)
    results.write_text(json.dumps({"identity": identity}))
    assert STAGES["evaluate"].finished(context)
    for content in ("{}", '{"identity": "of older networks"}', '{"iden', "[1]"):
        results.write_text(content)
        assert not STAGES["evaluate"].finished(context)


def test_results_come_with_confusions_and_a_feature_map(
    context: RunContext, made: DistilledSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of networks that were measured before; the expert's features are the pixels."""
    for record in plan_networks(context.config, context.data, context.folder.path):
        record.write(
            NetworkResult(
                accuracy=0.5,
                accuracy_over_images=0.5,
                per_class=(0.5,) * 10,
                confidence=(0.5,) * 10,
                true_confidence=(0.5,) * 10,
                confusion=((0, 0, 1 + record.network), (0, 3, 1)),
                set_name=record.set_name,
                model=record.model,
                network=record.network,
                images=20,
                labels="hard",
                classifier_norms=(1.0,) * 10,
                tau=None,
                seconds=1.0,
            )
        )
    monkeypatch.setattr(
        "ltdd_ray.evaluate.feature_map.expert_features",
        lambda config, train, images: images.flatten(1),
    )
    write_results(context)
    results = json.loads(context.folder.results.read_text())
    assert results["confusion"] == [[0, 0, 1.5], [0, 3, 1.0]]
    assert len(read_feature_map(context.folder.path, results["identity"])["set"]) == 20
    STAGES["report"].work(context)
    page = (context.folder.path / "report.html").read_text()
    assert 'id="confusions"' in page and 'id="coverage"' in page


@pytest.mark.parametrize("content", ["[1]", "{", '{"sets": {}}', '{"sets": 5}', "[" * 100_000])
def test_altered_results_are_one_sentence(
    context: RunContext, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    for name, stage in STAGES.items():
        monkeypatch.setitem(STAGES, name, replace(stage, finished=lambda run: True))
    context.folder.results.write_text(content)
    with pytest.raises(UserError, match=r"results\.json lacks what is shown .*delete the file and"):
        run(context.config, ["evaluate"], TextOutput(quiet=True))


@pytest.mark.parametrize("content", ["[1]", "{", "{}", '{"identity": 3}', "null"])
def test_a_damaged_record_of_a_network_is_made_anew(
    context: RunContext, made: DistilledSet, content: str
) -> None:
    record = plan_networks(context.config, context.data, context.folder.path)[0]
    record.file.parent.mkdir()
    record.file.write_text(content)
    assert record.read() is None
    record.file.write_text(json.dumps({"identity": record.identity, "result": {"half": 1}}))
    assert record.read() is None


@pytest.mark.parametrize(
    "name",
    [
        *("results.json", "config.yaml", "distilled/history.jsonl"),
        *("distilled/distilled.safetensors", "distilled/initial.safetensors"),
        "evaluation/feature_map.json",
    ],
)
def test_a_report_counts_for_what_it_was_made_from(context: RunContext, name: str) -> None:
    """The date of a file decides nothing: copies and restored files have any."""
    folder, finished = context.folder.path, STAGES["report"].finished
    assert not finished(context)
    write_run(folder)
    assert not finished(context)
    STAGES["report"].work(context)
    os.utime(folder / "report.html", (0, 0))
    assert finished(context)
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(before + b" ")
    os.utime(folder / name, (0, 0))
    os.utime(folder / "report.html")
    assert not finished(context)
    (folder / name).write_bytes(before)
    assert finished(context)
    context.folder.record_stage("report", 1.0, 1)
    assert finished(context)
    (folder / "report.html").write_text("<html>")
    assert not finished(context)


def test_a_run_says_what_was_passed_over(
    tiny: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train/a", "train/b", "train/c", "test/a", "test/b"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for k in range(2):
            shade = 20 * k + 50 * len(list((tmp_path / "birds").rglob("*.png")))
            Image.new("L", (8, 8), shade % 256).save(tmp_path / "birds" / name / f"{k}.png")
    (tmp_path / "birds" / "train" / "a" / "film.mp4").touch()
    data = {"source": "imagefolder", "path": str(tmp_path / "birds"), "imbalance_factor": None}
    config = tiny(tmp_path / "run", data=data, distill={"ipc": 1, "engine": "dm"})
    with pytest.raises(UserError, match="evaluate needs a finished distill stage"):
        run(config, ("evaluate",), TextOutput())
    said = capsys.readouterr().out
    assert "data: note: 1 file(s) with .mp4 are not read, for example " in said
    assert "data: note: 1 of 3 classes have no test images ('c')" in said
