"""The four stages of a run: experts, distill, evaluate, report.

Each stage leaves an artifact. A stage whose artifact is complete is not repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ltdd_ray.cluster.distribution import match_on_actor
from ltdd_ray.cluster.evaluation import evaluate_networks
from ltdd_ray.cluster.experts import train_experts
from ltdd_ray.cluster.trajectory import run_job
from ltdd_ray.common.files import write_json
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checks import read_checks
from ltdd_ray.distill.metrics_log import UpdateReport
from ltdd_ray.distill.provenance import refuse_other_inputs
from ltdd_ray.evaluate.feature_map import write_feature_map
from ltdd_ray.evaluate.plan import (
    SET_HASH,
    distilled_file,
    evaluation_identity,
    hash_of_set,
    plan_networks,
)
from ltdd_ray.evaluate.results import summarise
from ltdd_ray.evaluate.sets import epochs_on
from ltdd_ray.evaluate.train import EvaluationReport
from ltdd_ray.experts.expert import EpochReport
from ltdd_ray.experts.norms import expert_classifier_norms
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.export.card import write_card
from ltdd_ray.export.show import show as write_sheet
from ltdd_ray.report.page import is_current, write_report
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.heartbeat import Heartbeat
from ltdd_ray.runs.output import Output
from ltdd_ray.runs.remote import RemoteRun
from ltdd_ray.runs.tracking.trackers import Tracking


@dataclass(frozen=True)
class RunContext:
    """What every stage works on.

    Paths in ``config`` are absolute, so that workers on this machine find them. ``folder`` has the
    path as the user gave it. ``heartbeat`` beats while the stages run, ``tracking`` starts with the
    first work. ``remote`` keeps the folder in step with the run's address, if it has one.
    """

    config: RunConfig
    data: PreparedData
    folder: RunFolder
    output: Output
    heartbeat: Heartbeat
    tracking: Tracking
    remote: RemoteRun | None = None


@dataclass(frozen=True)
class PipelineStage:
    """One stage.

    ``finished`` is true where the artifact is complete. ``work`` completes it and returns the peak
    memory of its processes in bytes. ``artifact`` is the place to show to the user. ``needed`` is
    false where none of the sets in ``evaluate.sets`` depends on the stage.
    """

    finished: Callable[[RunContext], bool]
    work: Callable[[RunContext], int]
    artifact: Callable[[RunFolder, RunConfig], str]
    uses_ray: bool = True
    needed: Callable[[RunConfig], bool] = lambda config: True


def _experts_finished(run: RunContext) -> bool:
    return not missing_experts(run.config, run.data.train)


def _train_experts(run: RunContext) -> int:
    missing = missing_experts(run.config, run.data.train)
    epochs = run.config.experts.representation.epochs
    total = len(missing) * (epochs + run.config.experts.classifier.epochs)
    with run.output.progress("experts", total, "epochs") as progress:

        def show(report: EpochReport | str) -> None:
            if isinstance(report, str):
                run.output.say("experts", report)
                return
            done = report.epoch if report.stage == "representation" else epochs + report.epoch
            speed = f"{report.images_per_second:,.0f} images/s"
            note = f"expert {report.expert} {report.stage}, loss {report.loss:.3f}, {speed}"
            progress.update(report.expert, done, note)

        return train_experts(run.config, run.data, missing, show)


def _distill_finished(run: RunContext) -> bool:
    # distilled.json is the last file that save() writes.
    file = run.folder.distilled / "distilled.safetensors"
    if not file.exists() or not file.with_suffix(".json").exists():
        return False
    refuse_other_inputs(DistilledSet.load(file), file, run.config, run.data.train)
    return True


def _distill(run: RunContext) -> int:
    settings = run.config.distill
    matching = settings.engine == "matching"
    updates = settings.updates if matching else settings.distribution.updates
    if matching:  # Ray Train prints nothing until the first update, which can take a minute
        run.output.say("distill", "starting the workers")
    with run.output.progress("distill", updates, "updates") as progress:

        def show(report: UpdateReport | str) -> None:
            if isinstance(report, str):
                run.output.say("distill", report)
                return
            note = f"loss {report.metrics['loss/total']:.4f}"
            if "syn_lr" in report.metrics:
                note += f", rate {report.metrics['syn_lr']:.4g}"
            progress.update("updates", report.update, note)
            run.tracking.update(report.update, report.metrics)

        distilled, peak = (run_job if matching else match_on_actor)(run.config, run.data, show)
    if run.remote:
        run.remote.pull()  # the log and the checks, which the worker has written
    write_card(distilled.save(run.folder.distilled))
    run.tracking.image("distilled", lambda: write_sheet(run.folder.distilled, None).file)
    return peak


def _evaluate_finished(run: RunContext) -> bool:
    planned = plan_networks(run.config, run.data, run.folder.path)
    # A killed run may leave the results of networks that it has replaced.
    made_from = run.folder.read_results().get("identity")
    return made_from == evaluation_identity(planned) and all(record.read() for record in planned)


def _evaluate(run: RunContext) -> int:
    missing = [
        record
        for record in plan_networks(run.config, run.data, run.folder.path)
        if not record.read()
    ]
    total = sum(epochs_on(run.config, record.set_name) for record in missing)
    with run.output.progress("evaluate", total, "epochs") as progress:

        def show(report: EvaluationReport | str) -> None:
            if isinstance(report, str):
                run.output.say("evaluate", report)
                return
            task = (report.set_name, report.model, report.network)
            note = f"network {report.network}, {report.model}, on {report.set_name}"
            progress.update(task, report.epoch, note)

        return evaluate_networks(run.config, run.data, missing, show)


def write_results(run: RunContext) -> None:
    """Write results.json from the evaluated networks, the feature map, and the card."""
    planned = plan_networks(run.config, run.data, run.folder.path)
    identity = evaluation_identity(planned)
    write_feature_map(run.config, run.data, run.folder.path, identity)
    networks = [result for record in planned if (result := record.read())]
    known = {
        "identity": identity,
        **run.folder.information(),
        "expert_classifier_norms": expert_classifier_norms(run.config, run.data.train),
    }
    if run.config.distils:
        known[SET_HASH] = hash_of_set(distilled_file(run.folder.path))
    if run.data.estimate:
        known["class_count_estimate"] = run.data.estimate.to_json()
    if checks := read_checks(run.folder.distilled):
        known["checks"] = checks
    results = summarise(run.config, run.data.train, networks, known)
    write_json(run.folder.results, results)
    run.tracking.results(results)
    if run.config.distils:
        write_card(run.folder.distilled / "distilled.safetensors")


def _report_finished(run: RunContext) -> bool:
    return is_current(run.folder.path)


def _report(run: RunContext) -> int:
    write_report(run.folder.path)
    return 0


STAGES = {
    "experts": PipelineStage(
        _experts_finished,
        _train_experts,
        lambda folder, config: config.store_uri,
        needed=lambda config: config.needs_experts,
    ),
    "distill": PipelineStage(
        _distill_finished,
        _distill,
        lambda folder, config: str(folder.distilled / "distilled.safetensors"),
        needed=lambda config: config.distils,
    ),
    "evaluate": PipelineStage(
        _evaluate_finished, _evaluate, lambda folder, config: str(folder.results)
    ),
    "report": PipelineStage(
        _report_finished,
        _report,
        lambda folder, config: str(folder.path / "report.html"),
        uses_ray=False,
    ),
}
