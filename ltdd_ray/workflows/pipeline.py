"""Run the stages of a config in order: experts, distill, evaluate, report.

:mod:`~ltdd_ray.workflows.stages` holds the stages themselves.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path

from ltdd_ray.cluster.image_cache import ray_writer
from ltdd_ray.cluster.metrics import LossCounter, StageGauges
from ltdd_ray.cluster.session import inside_job, ray_session
from ltdd_ray.cluster.trajectory import require_workers
from ltdd_ray.common.address import is_address, shown
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text, resolved
from ltdd_ray.common.hardware import peak_memory
from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import describe_shortage, picture_budget
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.formation import require_cells
from ltdd_ray.evaluate.plan import require_models
from ltdd_ray.methods import name_note
from ltdd_ray.report.finished import fitting_files
from ltdd_ray.runs.events import (
    STOPPED,
    STOPPED_JOB,
    RecordingOutput,
    record_event,
    record_progress,
)
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.heartbeat import Heartbeat
from ltdd_ray.runs.output import Output, TextOutput
from ltdd_ray.runs.progress import StageState
from ltdd_ray.runs.remote import RemoteRun, place_of, remote_run
from ltdd_ray.runs.tracking.tracker import End
from ltdd_ray.runs.tracking.trackers import Tracking
from ltdd_ray.workflows.stages import STAGES, RunContext, write_results


def run(config: RunConfig, stages: Sequence[str], output: Output | None = None) -> None:
    """Finish ``stages``, keys of :data:`STAGES` in their order. What is finished is not repeated.

    Ray is started, or joined, only if a stage has work left. Raises ``UserError`` before any work
    for unusable data, for an unusable folder, store or cluster, and where the stage before the
    first one is not finished.
    """
    if not stages:
        raise UserError(f"run: the list of stages is empty; name some of {', '.join(STAGES)}")
    require_lasting_output(config)
    with ExitStack() as session:
        output = output or TextOutput()
        data = prepare_data(config, ray_writer(config.compute), partial(output.say, "data"))
        run_stages(config, data, stages, output, session)


def run_stages(
    config: RunConfig, data: PreparedData, stages: Sequence[str], output: Output, session: ExitStack
) -> None:
    """:func:`run` on prepared data. Ray, once started, stays until ``session`` is closed."""
    with remote_run(config, partial(output.say, "storage")) as remote:
        run = open_run(config, data, output, remote)
        with run.folder.locked():
            _run_stages(run, config, stages, session)


def _run_stages(
    run: RunContext, config: RunConfig, stages: Sequence[str], session: ExitStack
) -> None:
    """``config`` has the paths as the user gave them, to be shown."""
    data, output = run.data, run.output
    counts = data.train.class_counts.tolist()
    for note in data.notes:
        output.say("data", f"note: {note}")
    if shortage := describe_shortage(picture_budget(config.distill, counts), counts):
        output.say("data", shortage)
    if note := name_note(config):
        output.say("config", f"note: {note}")
    with recorded_end(run):
        _require_previous(run, stages[0])
        require_models(config, data)
        require_cells(data.train.image_shape, config.distill.pictures_per_side)
        for name in stages:
            stage = STAGES[name]
            artifact = place_of(config, stage.artifact(run.folder, config))
            if not stage.needed(config):
                output.say(name, f"not needed for {', '.join(config.evaluate.sets)}")
                continue
            if stage.finished(run):
                output.stage(name, "already finished", artifact)
                continue
            run.tracking.start()
            if stage.uses_ray:
                enter_ray(run, session)
                # Checked before the experts are trained, which takes longest.
                if "distill" in stages and config.matches:
                    require_workers(config, counts)
            output.stage(name, "finished", artifact, _work(run, name))
    if "evaluate" in stages or "report" in stages:
        with fitting_files(run.folder.path):
            results = json.loads(read_text(run.folder.results))
            output.results(results, place_of(config, str(run.folder.results)))


def open_run(
    config: RunConfig, data: PreparedData, output: Output, remote: RemoteRun | None = None
) -> RunContext:
    """Open the folder of the run, and record there what ``output`` shows.

    ``remote`` belongs to a run with an address. Raises ``UserError`` where the folder cannot be
    used.
    """
    folder = RunFolder.open(config)
    heartbeat = Heartbeat(folder.path)
    segments = config.distill.segments_per_update if config.matches else None

    def wait_for_first_update(state: StageState) -> None:
        heartbeat.waits_for(None if state.done else _workers_of(state.stage, config))

    def check_claim(_: StageState) -> None:
        if remote:
            remote.check()

    def listeners() -> tuple[Callable[[StageState], None], ...]:
        recorder = partial(record_progress, folder.path)
        gauges = StageGauges(config.name, segments)
        return gauges.set, recorder, wait_for_first_update, check_claim

    recording = RecordingOutput(output, folder.path, listeners, LossCounter(config.name).add)
    tracking = Tracking(config, folder.path, partial(recording.say, "tracking"))
    return RunContext(absolute(config), data, folder, recording, heartbeat, tracking, remote)


def _workers_of(stage: str, config: RunConfig) -> str:
    if stage == "search":
        return "the first trials of Ray Tune"
    return "Ray Train's workers" if stage == "distill" and config.matches else "Ray's actors"


def enter_ray(run: RunContext, session: ExitStack) -> None:
    """Start or join Ray until ``session`` is closed; the heartbeat tells that the run waits."""
    run.heartbeat.waits_for("Ray")
    session.enter_context(ray_session(run.config.compute, run.data.bytes_in_memory))
    run.heartbeat.waits_for(None)


@contextmanager
def recorded_end(run: RunContext) -> Iterator[None]:
    """The heartbeat beats within the block; events and trackers tell how it ended."""
    end: End = "failed"
    try:
        with run.heartbeat:  # it ends before an unused folder is removed
            yield
        end = "finished"
    except UserError as error:
        record_failure(run, error)
        raise
    except KeyboardInterrupt:  # Ctrl-C, and SIGTERM, which `ray job stop` and Slurm send
        end = "stopped"
        record_event(run.folder.path, STOPPED_JOB if inside_job() else STOPPED)
        raise
    finally:
        run.tracking.end(end)


def record_failure(run: RunContext, error: UserError) -> None:
    """Write ``error`` to the run's events. Remove the folder if no stage left anything in it."""
    record_event(run.folder.path, f"error: {error}")
    run.folder.remove_if_unused()


def require_lasting_output(config: RunConfig) -> None:
    """Raise ``UserError`` where a Ray job would write to a folder that is deleted with the job."""
    if inside_job() and not is_address(config.output) and not Path(config.output).is_absolute():
        raise UserError(
            f"output {config.output!r} is relative, but a Ray job runs in a temporary copy of the "
            "working directory; choose a folder that outlives the job with --set output=/..."
        )


def require_folder(config: RunConfig, command: str) -> None:
    """Raise ``UserError`` where ``command``, which needs a folder, has an address as output."""
    if config.address:
        raise UserError(
            f"{command}: output {shown(config.output)} is an address, which only single runs can "
            "have; --set output=/... to a folder that all nodes see (experts.store may be an "
            "address)"
        )


def absolute(config: RunConfig) -> RunConfig:
    """``config`` with absolute paths: workers have other working directories than the driver."""
    store = config.experts.store
    if store and not is_address(store):
        store = str(resolved(Path(store)))
    output = config.output if config.address else str(resolved(Path(config.output)))
    return with_store(config.model_copy(update={"output": output}), store)


def with_store(config: RunConfig, store: str | None) -> RunConfig:
    """``config`` with its trajectories in ``store``."""
    return config.model_copy(update={"experts": config.experts.model_copy(update={"store": store})})


def _require_previous(run: RunContext, first: str) -> None:
    earlier = [
        name
        for name in takewhile(lambda name: name != first, STAGES)
        if STAGES[name].needed(run.config)
    ]
    if earlier and not STAGES[earlier[-1]].finished(run):
        raise UserError(
            f"{first} needs a finished {earlier[-1]} stage; "
            f"run `ltdd-ray {earlier[-1]}` with the same config first"
        )


def _work(run: RunContext, name: str) -> float:
    """Do and record the work of one stage; returns the seconds it took."""
    began = time.monotonic()
    peak = max(STAGES[name].work(run), peak_memory())
    seconds = time.monotonic() - began
    run.folder.record_stage(name, seconds, peak)
    run.tracking.stage_finished(name, seconds)
    if name == "evaluate":  # after record_stage, as the results hold the time of this stage
        write_results(run)
    if run.remote:
        run.remote.push()
    return seconds
