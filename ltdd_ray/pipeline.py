"""The whole run: experts, distilled set, evaluation, report; each stage leaves an artifact and is skipped where it lies already."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ltdd_ray.cluster.session import inside_job, ray_session
from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import class_budget, describe_shortage
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.job import require_workers, run_job
from ltdd_ray.distill.loop import UpdateReport
from ltdd_ray.errors import UserError
from ltdd_ray.evaluate.pool import evaluate_networks, plan_networks
from ltdd_ray.evaluate.results import results_table, summarise
from ltdd_ray.evaluate.train import EvaluationReport
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.experts.pool import train_experts
from ltdd_ray.experts.run import EpochReport
from ltdd_ray.files import write_json
from ltdd_ray.hardware import peak_memory
from ltdd_ray.progress import StageProgress
from ltdd_ray.report.page import write_report
from ltdd_ray.runfolder import RunFolder


@dataclass(frozen=True)
class Run:
    """What every stage works on; the paths in ``config`` are absolute, those of ``folder`` as the user gave them."""

    config: RunConfig
    data: PreparedData
    folder: RunFolder
    console: Console


@dataclass(frozen=True)
class Stage:
    """One step: whether its artifact is complete, and the work that completes it and returns its peak memory in bytes."""

    finished: Callable[[Run], bool]
    work: Callable[[Run], int]
    artifact: Callable[[RunFolder, RunConfig], str]
    uses_ray: bool = True


def run(config: RunConfig, stages: Sequence[str], console: Console | None = None) -> None:
    """Bring ``stages`` (of :data:`STAGES`, in that order) to their end, starting or joining Ray only if one has work left.

    Raises ``UserError`` before any work for unusable data, folder, store or cluster, or where the stage before the first is open.
    """
    console = console or Console()
    if inside_job() and not Path(config.output).is_absolute():
        raise UserError(
            f"output {config.output!r} is relative, but a Ray job runs in a temporary copy of the working directory; "
            "choose a folder that outlives it with --set output=/..."
        )
    data = prepare_data(config)
    run = Run(_absolute(config), data, RunFolder.open(config), console)
    counts = data.train.class_counts.tolist()
    if shortage := describe_shortage(class_budget(config.distill, counts), counts):
        _say(run, shortage)
    try:
        _require_previous(run, stages[0])
        with ExitStack() as session:
            for name in stages:
                if STAGES[name].finished(run):
                    _say(run, f"{name}: already finished, {STAGES[name].artifact(run.folder, config)}")
                    continue
                if STAGES[name].uses_ray:
                    session.enter_context(ray_session(config.compute, data.train.bytes_in_memory + data.evaluation.bytes_in_memory))
                    if "distill" in stages:  # a cluster too small for it shall say so before the experts are trained
                        require_workers(config.compute)
                seconds = _work(run, name)
                _say(run, f"{name}: finished in {seconds:.0f} s, {STAGES[name].artifact(run.folder, config)}")
    except UserError:
        run.folder.remove_if_unused()
        raise
    if "evaluate" in stages or "report" in stages:
        console.print(results_table(json.loads(run.folder.results.read_text())))


def _work(run: Run, name: str) -> float:
    """Bring one stage to its end and record it; returns the seconds it took."""
    began = time.monotonic()
    peak = max(STAGES[name].work(run), peak_memory())
    seconds = time.monotonic() - began
    run.folder.record_stage(name, seconds, peak)
    if name == "evaluate":  # its own timing is part of the results
        _write_results(run)
    return seconds


def _say(run: Run, line: str) -> None:
    run.console.print(line, soft_wrap=True, highlight=False)


def _absolute(config: RunConfig) -> RunConfig:
    """Relative paths start at this process's directory; workers have others."""
    store = config.experts.store
    if store and "://" not in store:
        store = str(Path(store).resolve())
    experts = config.experts.model_copy(update={"store": store})
    return config.model_copy(update={"output": str(Path(config.output).resolve()), "experts": experts})


def _require_previous(run: Run, first: str) -> None:
    names = list(STAGES)
    previous = names[names.index(first) - 1] if first != names[0] else None
    if previous and not STAGES[previous].finished(run):
        raise UserError(f"{first} starts from a finished {previous} stage; run `ltdd-ray {previous}` with the same config first")


def _experts_finished(run: Run) -> bool:
    return not missing_experts(run.config, run.data.train)


def _train_experts(run: Run) -> int:
    missing, epochs = missing_experts(run.config, run.data.train), run.config.experts.representation.epochs
    total = len(missing) * (epochs + run.config.experts.classifier.epochs)
    with StageProgress("experts", total, "epochs", run.console) as progress:

        def show(report: EpochReport) -> None:
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
    with StageProgress("distill", run.config.distill.updates, "updates", run.console) as progress:

        def show(report: UpdateReport | str) -> None:
            if isinstance(report, str):
                _say(run, f"distill: {report}")
            else:
                metrics = report.metrics
                progress.update("updates", report.update, f"loss {metrics['loss/total']:.4f}, rate {metrics['syn_lr']:.4g}")

        distilled, peak = run_job(run.config, run.data, show)
    distilled.save(run.folder.distilled)
    return peak


def _evaluate_finished(run: Run) -> bool:
    return run.folder.results.exists() and all(record.read() for record in plan_networks(run.config, run.data, run.folder))


def _evaluate(run: Run) -> int:
    missing = [record for record in plan_networks(run.config, run.data, run.folder) if not record.read()]
    with StageProgress("evaluate", len(missing) * run.config.evaluate.epochs, "epochs", run.console) as progress:

        def show(report: EvaluationReport) -> None:
            progress.update((report.set_name, report.network), report.epoch, f"network {report.network} on {report.set_name}")

        return evaluate_networks(run.config, run.data, missing, show)


def _write_results(run: Run) -> None:
    networks = [result for record in plan_networks(run.config, run.data, run.folder) if (result := record.read())]
    estimate = {"class_count_estimate": run.data.estimate.to_json()} if run.data.estimate else {}
    write_json(run.folder.results, summarise(run.config, run.data.train, networks, {**run.folder.information(), **estimate}))


def _report_finished(run: Run) -> bool:
    page = run.folder.path / "report.html"
    return page.exists() and page.stat().st_mtime >= run.folder.results.stat().st_mtime


def _report(run: Run) -> int:
    write_report(run.folder.path)
    return 0


STAGES = {
    "experts": Stage(_experts_finished, _train_experts, lambda folder, config: config.store_uri),
    "distill": Stage(_distill_finished, _distill, lambda folder, config: str(folder.distilled / "distilled.safetensors")),
    "evaluate": Stage(_evaluate_finished, _evaluate, lambda folder, config: str(folder.results)),
    "report": Stage(_report_finished, _report, lambda folder, config: str(folder.path / "report.html"), uses_ray=False),
}
