"""The whole run: experts, distilled set, evaluation, report; each stage leaves an artifact and is skipped where it lies already."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path

from ltdd_ray.cluster.distribution import match_on_actor
from ltdd_ray.cluster.evaluation import evaluate_networks
from ltdd_ray.cluster.experts import train_experts
from ltdd_ray.cluster.image_cache import ray_writer
from ltdd_ray.cluster.metrics import StageGauges
from ltdd_ray.cluster.session import inside_job, ray_session
from ltdd_ray.cluster.trajectory import require_workers, run_job
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_json
from ltdd_ray.common.hardware import peak_memory
from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import describe_shortage, picture_budget
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.formation import require_cells
from ltdd_ray.distill.metrics_log import UpdateReport
from ltdd_ray.evaluate.plan import plan_networks, require_models
from ltdd_ray.evaluate.results import summarise
from ltdd_ray.evaluate.sets import epochs_on
from ltdd_ray.evaluate.train import EvaluationReport
from ltdd_ray.experts.expert import EpochReport
from ltdd_ray.experts.norms import expert_classifier_norms
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.export.card import write_card
from ltdd_ray.report.page import write_report
from ltdd_ray.runs.events import Recorded, record_event, record_progress
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.output import Output, TextOutput
from ltdd_ray.runs.progress import StageState


@dataclass(frozen=True)
class Run:
    """What every stage works on; the paths in ``config`` are absolute, those of ``folder`` as the user gave them."""

    config: RunConfig
    data: PreparedData
    folder: RunFolder
    output: Output


@dataclass(frozen=True)
class Stage:
    """One step: whether its artifact is complete, and the work that completes it and returns its peak memory in bytes.

    ``needed`` says whether the sets that are evaluated ask for it at all.
    """

    finished: Callable[[Run], bool]
    work: Callable[[Run], int]
    artifact: Callable[[RunFolder, RunConfig], str]
    uses_ray: bool = True
    needed: Callable[[RunConfig], bool] = lambda config: True


def run(config: RunConfig, stages: Sequence[str], output: Output | None = None) -> None:
    """Bring ``stages`` (of :data:`STAGES`, in that order) to their end, starting or joining Ray only if one has work left.

    Raises ``UserError`` before any work for unusable data, folder, store or cluster, or where the stage before the first is open.
    """
    require_lasting_output(config)
    with ExitStack() as session:
        data = prepare_data(config, ray_writer(config.compute))
        run_stages(config, data, stages, output or TextOutput(), session)


def require_lasting_output(config: RunConfig) -> None:
    """Raise ``UserError`` where this process is a Ray job and would write into a folder that ends with it."""
    if inside_job() and not Path(config.output).is_absolute():
        raise UserError(
            f"output {config.output!r} is relative, but a Ray job runs in a temporary copy of the working directory; "
            "choose a folder that outlives it with --set output=/..."
        )


def run_stages(
    config: RunConfig, data: PreparedData, stages: Sequence[str], output: Output, session: ExitStack
) -> None:
    """:func:`run` on data already prepared; Ray, once started, stays until ``session`` is closed."""
    run = open_run(config, data, output)
    output, counts = run.output, data.train.class_counts.tolist()
    if shortage := describe_shortage(picture_budget(config.distill, counts), counts):
        output.say("data", shortage)
    try:
        _require_previous(run, stages[0])
        require_models(config, data)
        require_cells(data.train.image_shape, config.distill.pictures_per_side)
        for name in stages:
            if not STAGES[name].needed(config):
                output.say(name, f"not needed for {', '.join(config.evaluate.sets)}")
                continue
            if STAGES[name].finished(run):
                output.stage(name, "already finished", STAGES[name].artifact(run.folder, config))
                continue
            if STAGES[name].uses_ray:
                session.enter_context(ray_session(config.compute, data.bytes_in_memory))
                if (
                    "distill" in stages and config.matches
                ):  # a cluster too small for it shall say so before the experts are trained
                    require_workers(config, counts)
            seconds = _work(run, name)
            output.stage(name, "finished", STAGES[name].artifact(run.folder, config), seconds)
    except UserError as error:
        fail(run, error)
        raise
    if "evaluate" in stages or "report" in stages:
        output.results(json.loads(run.folder.results.read_text()), str(run.folder.results))


def open_run(config: RunConfig, data: PreparedData, output: Output) -> Run:
    """The run's folder with a journal of what ``output`` is told. Raises ``UserError`` where the folder is unusable."""
    folder = RunFolder.open(config)

    def listeners() -> tuple[Callable[[StageState], None], ...]:
        return StageGauges(config.name).set, partial(record_progress, folder.path)

    return Run(absolute(config), data, folder, Recorded(output, folder.path, listeners))


def fail(run: Run, error: UserError) -> None:
    """Note in the journal what ended the run; a folder without any work in it goes."""
    record_event(run.folder.path, f"error: {error}")
    run.folder.remove_if_unused()


def _work(run: Run, name: str) -> float:
    """Bring one stage to its end and record it; returns the seconds it took."""
    began = time.monotonic()
    peak = max(STAGES[name].work(run), peak_memory())
    seconds = time.monotonic() - began
    run.folder.record_stage(name, seconds, peak)
    if name == "evaluate":  # its own timing is part of the results
        _write_results(run)
    return seconds


def absolute(config: RunConfig) -> RunConfig:
    """Relative paths start at this process's directory; workers have others."""
    store = config.experts.store
    if store and "://" not in store:
        store = str(Path(store).resolve())
    return with_store(
        config.model_copy(update={"output": str(Path(config.output).resolve())}), store
    )


def with_store(config: RunConfig, store: str | None) -> RunConfig:
    """``config`` with its trajectories in ``store``."""
    return config.model_copy(update={"experts": config.experts.model_copy(update={"store": store})})


def _require_previous(run: Run, first: str) -> None:
    earlier = [
        name
        for name in takewhile(lambda name: name != first, STAGES)
        if STAGES[name].needed(run.config)
    ]
    if earlier and not STAGES[earlier[-1]].finished(run):
        raise UserError(
            f"{first} starts from a finished {earlier[-1]} stage; run `ltdd-ray {earlier[-1]}` with the same config first"
        )


def _experts_finished(run: Run) -> bool:
    return not missing_experts(run.config, run.data.train)


def _train_experts(run: Run) -> int:
    missing, epochs = (
        missing_experts(run.config, run.data.train),
        run.config.experts.representation.epochs,
    )
    total = len(missing) * (epochs + run.config.experts.classifier.epochs)
    with run.output.progress("experts", total, "epochs") as progress:

        def show(report: EpochReport | str) -> None:
            if isinstance(report, str):
                run.output.say("experts", report)
                return
            done = report.epoch if report.stage == "representation" else epochs + report.epoch
            note = f"expert {report.expert} {report.stage}, loss {report.loss:.3f}, {report.images_per_second:,.0f} images/s"
            progress.update(report.expert, done, note)

        return train_experts(run.config, run.data, missing, show)


def _distill_finished(run: Run) -> bool:
    if not (run.folder.distilled / "distilled.json").exists():  # the last file that save() writes
        return False
    DistilledSet.load(run.folder.distilled)
    return True


def _distill(run: Run) -> int:
    settings = run.config.distill
    matching = settings.engine == "matching"
    updates = settings.updates if matching else settings.distribution.updates
    if matching:  # until the first update, up to a minute on a busy machine, Ray Train is silent
        run.output.say("distill", "starting the workers")
    with run.output.progress("distill", updates, "updates") as progress:

        def show(report: UpdateReport | str) -> None:
            if isinstance(report, str):
                run.output.say("distill", report)
            else:
                rate = (
                    f", rate {report.metrics['syn_lr']:.4g}" if "syn_lr" in report.metrics else ""
                )
                progress.update(
                    "updates", report.update, f"loss {report.metrics['loss/total']:.4f}{rate}"
                )

        distilled, peak = (run_job if matching else match_on_actor)(run.config, run.data, show)
    write_card(distilled.save(run.folder.distilled))
    return peak


def _evaluate_finished(run: Run) -> bool:
    return run.folder.results.exists() and all(
        record.read() for record in plan_networks(run.config, run.data, run.folder.path)
    )


def _evaluate(run: Run) -> int:
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
            progress.update(
                task,
                report.epoch,
                f"network {report.network}, a {report.model}, on {report.set_name}",
            )

        return evaluate_networks(run.config, run.data, missing, show)


def _write_results(run: Run) -> None:
    networks = [
        result
        for record in plan_networks(run.config, run.data, run.folder.path)
        if (result := record.read())
    ]
    known = {
        **run.folder.information(),
        "expert_classifier_norms": expert_classifier_norms(run.config, run.data.train),
    }
    if run.data.estimate:
        known["class_count_estimate"] = run.data.estimate.to_json()
    write_json(run.folder.results, summarise(run.config, run.data.train, networks, known))
    if run.config.distils:
        write_card(run.folder.distilled / "distilled.safetensors")  # now with accuracies


def _report_finished(run: Run) -> bool:
    page = run.folder.path / "report.html"
    return page.exists() and page.stat().st_mtime >= run.folder.results.stat().st_mtime


def _report(run: Run) -> int:
    write_report(run.folder.path)
    return 0


STAGES = {
    "experts": Stage(
        _experts_finished,
        _train_experts,
        lambda folder, config: config.store_uri,
        needed=lambda config: config.needs_experts,
    ),
    "distill": Stage(
        _distill_finished,
        _distill,
        lambda folder, config: str(folder.distilled / "distilled.safetensors"),
        needed=lambda config: config.distils,
    ),
    "evaluate": Stage(_evaluate_finished, _evaluate, lambda folder, config: str(folder.results)),
    "report": Stage(
        _report_finished,
        _report,
        lambda folder, config: str(folder.path / "report.html"),
        uses_ray=False,
    ),
}
