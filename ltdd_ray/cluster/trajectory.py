"""Trajectory matching as a Ray Train job: DDP over the synthetic set, with checkpoints."""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import ray
import ray.train
import ray.train.torch
from pyarrow import fs
from ray.train import CheckpointConfig, FailureConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from ltdd_ray.cluster.mailbox import Outbox, answer, open_mailbox
from ltdd_ray.cluster.preemption import LossNotes, PreemptionWarnings
from ltdd_ray.cluster.session import require_capacity
from ltdd_ray.common.address import inside, shown
from ltdd_ray.common.device import prepare_process
from ltdd_ray.common.errors import NonFiniteLossError, UserError
from ltdd_ray.common.files import read_text, resolved
from ltdd_ray.common.hardware import peak_memory
from ltdd_ray.config import ComputeConfig, RunConfig
from ltdd_ray.data.budget import picture_budget
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checkpoint import finished_updates
from ltdd_ray.distill.metrics_log import UpdateReport, open_log
from ltdd_ray.distill.trajectory.loop import distill
from ltdd_ray.distill.trajectory.synthetic import SyntheticSet
from ltdd_ray.evaluate.held_out import make_checks
from ltdd_ray.runs.remote import mirrored_distillation
from ltdd_ray.store.location import open_address, storage_errors

POLL_SECONDS = 0.2
CHECKPOINTS_KEPT = 2
CHECKPOINTS, SNAPSHOT = "checkpoints", "checkpoint_manager_snapshot.json"


def run_job(
    config: RunConfig, data: PreparedData, on_report: Callable[[UpdateReport | str], None]
) -> tuple[DistilledSet, int]:
    """Distil, from the last checkpoint under ``distilled/checkpoints`` of the run if there is one.

    ``on_report`` receives a report per update and, if the job starts anew, sentences about the
    initial set; also sentences about lost workers and announced preemptions. Returns the set and
    the peak memory of rank 0 in bytes.

    Raises ``UserError`` if the workers do not fit the cluster or too many of them died. A
    ``UserError`` of a worker, for example :class:`NonFiniteLossError`, is raised unchanged. The
    last checkpoints are kept in every case.
    """
    compute = config.compute
    require_workers(config, data.train.class_counts.tolist())
    filesystem, storage = _storage(config)
    mailbox = open_mailbox()
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"config": config, "data": ray.put(data), "mailbox": mailbox},
        **worker_settings(
            compute,
            (compute.min_workers, compute.num_workers)
            if compute.min_workers
            else compute.num_workers,
        ),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS,
            storage_path=storage,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(
                max_failures=compute.max_failures, controller_failure_limit=compute.max_failures
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
            callbacks=[LossNotes(mailbox)],
        ),
    )
    try:
        outcome = _run_trainer(trainer, mailbox, on_report)
        failure = answer(mailbox.failure.remote())
        if failure:
            raise failure
    finally:
        ray.kill(mailbox)
    if isinstance(outcome, ray.train.TrainingFailedError):
        raise UserError(
            "distillation failed more often than compute.max_failures = "
            f"{compute.max_failures} allows; its last checkpoint is kept, so the same command "
            f"resumes. {outcome}"
        ) from outcome
    if isinstance(outcome, Exception):
        raise outcome
    return outcome.return_value


def worker_settings(compute: ComputeConfig, num_workers: int | tuple[int, int]) -> dict[str, Any]:
    """Settings of a ``TorchTrainer``: number and resources of the workers, and their backend.

    ``num_workers`` may be a pair (at least, at most).
    """
    return {
        # NCCL refuses two workers on one GPU; gloo serves CPUs as well.
        "torch_config": TorchConfig(backend="nccl" if compute.gpus_per_worker >= 1 else "gloo"),
        "scaling_config": ScalingConfig(
            num_workers=num_workers,
            use_gpu=compute.gpus_per_worker > 0,
            resources_per_worker={"CPU": compute.cpus_per_worker, "GPU": compute.gpus_per_worker},
        ),
    }


def require_workers(config: RunConfig, class_counts: Sequence[int]) -> None:
    """Raise ``UserError`` for more workers than a batch has images, or than fit the cluster."""
    compute, distill = config.compute, config.distill
    terms = ((distill.lambda_rep, distill.representation), (distill.lambda_cls, distill.classifier))
    batch = min(
        sum(picture_budget(distill, class_counts)),
        *(phase.batch_size for weight, phase in terms if weight),
    )
    if compute.parallel == "batch" and compute.num_workers > batch:
        raise UserError(
            f"compute.num_workers: {compute.num_workers} workers cannot share an inner batch of "
            f"{batch} images; --set compute.num_workers={batch} or raise distill.*.batch_size"
        )
    setting, fewest = (
        ("min_workers", compute.min_workers)
        if compute.min_workers
        else ("num_workers", compute.num_workers)
    )
    require_capacity(setting, fewest, compute.cpus_per_worker, compute.gpus_per_worker)


def _run_trainer(
    trainer: TorchTrainer, mailbox: Any, on_report: Callable[[UpdateReport | str], None]
) -> Any:
    """The trainer's result, or its exception.

    The trainer runs in a thread; in the main thread it would replace the handler of Ctrl-C.
    """
    outcome: list[Any] = []

    def fit() -> None:
        try:
            outcome.append(trainer.fit())
        except Exception as error:
            outcome.append(error)

    thread = Thread(target=fit, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        for report in answer(mailbox.drain.remote()):
            on_report(report)
    return outcome[0]


def _train_worker(job: dict[str, Any]) -> tuple[DistilledSet, int] | None:
    """The work of one rank from the last checkpoint on; None if an error ended the job."""
    config, mailbox = job["config"], job["mailbox"]
    if answer(mailbox.failure.remote()):
        return None
    prepare_process(config.compute.threads)
    checkpoint, outbox = ray.train.get_checkpoint(), Outbox(mailbox)
    try:
        with (
            checkpoint.as_directory() if checkpoint else nullcontext() as folder,
            _mirrored_rank(config) as push,
        ):
            result = _distill_rank(
                config, ray.get(job["data"]), outbox, Path(folder) if folder else None, push
            )
    except UserError as error:
        outbox.flush()  # the reports before the error
        ray.get(mailbox.fail.remote(error))
        if isinstance(error, NonFiniteLossError):  # every rank raises it, so all of them return
            return None
        # Other ranks may be waiting for this one. Train ends them and starts all ranks again, which
        # then return at the top of this function.
        raise
    return result, peak_memory()


def _mirrored_rank(config: RunConfig) -> AbstractContextManager[Callable[[], None]]:
    """Rank 0 writes the log and the checks; Ray Train writes the checkpoints by itself."""
    if ray.train.get_context().get_world_rank():
        return nullcontext(lambda: None)
    return mirrored_distillation(config, left_out=(f"distilled/{CHECKPOINTS}",))


def _distill_rank(
    config: RunConfig,
    data: PreparedData,
    outbox: Outbox,
    resume_from: Path | None,
    push: Callable[[], None],
) -> DistilledSet:
    """The plain loop, with reports and checkpoints that go to Ray Train and the run's folder.

    ``push`` uploads what was written to the folder so far.
    """
    context = ray.train.get_context()
    rank = context.get_world_rank()
    distilled = config.folder / "distilled"

    def on_initial(initial: DistilledSet, said: list[str]) -> None:
        initial.save(distilled, "initial")
        for sentence in said:
            outbox.add(sentence)

    def on_checkpoint(write: Callable[[Path], None], update: int) -> None:
        if rank:
            ray.train.report({"update": update})
            return
        push()  # before the checkpoint, so that the log reaches at least as far
        with TemporaryDirectory() as scratch:
            write(Path(scratch))
            ray.train.report(
                {"update": update}, checkpoint=ray.train.Checkpoint.from_directory(scratch)
            )

    done = finished_updates(resume_from)
    log = open_log(config, data.normalisation, done) if rank == 0 else None
    checks = make_checks(config, data, done, outbox.add) if rank == 0 else None
    warnings = PreemptionWarnings(outbox.add if rank == 0 else lambda sentence: None)

    def on_update(report: UpdateReport, synthetic: SyntheticSet) -> None:
        if log:
            log.write(report, synthetic.images, data.train.num_classes)
            outbox.add(report)

    with closing(log) if log else nullcontext():
        result = distill(
            config,
            data,
            on_update=on_update,
            on_checkpoint=on_checkpoint,
            on_initial=on_initial,
            rank=rank,
            world_size=context.get_world_size(),
            wrap=ray.train.torch.prepare_model,
            resume_from=resume_from,
            checks=checks,
            wants_checkpoint=warnings.new,
        )
    outbox.flush()
    return result


def _storage(config: RunConfig) -> tuple[fs.FileSystem | None, str]:
    """The file system and the folder of Ray Train's checkpoints, without any that are unusable.

    None stands for this machine's file system.
    """
    if config.address is None:
        folder = resolved(config.folder) / "distilled"
        drop_unusable(folder / CHECKPOINTS)
        return None, str(folder)
    filesystem, path = open_address(inside(config.address, "distilled"), "runs")
    with storage_errors(shown(config.address), "read the checkpoints"):
        drop_unusable_objects(filesystem, f"{path}/{CHECKPOINTS}")
    return filesystem, path


def drop_unusable(folder: Path) -> None:
    """Remove the checkpoint folder of an earlier job if Ray Train cannot resume from it.

    Its list of checkpoints may be cut by a crash (Ray rewrites the file in place), come from
    another version of Ray, or name a missing checkpoint. Train would fail on it at every start.
    """
    try:
        usable = _is_usable(read_text(folder / SNAPSHOT), lambda name: (folder / name).is_dir())
    except UnicodeDecodeError:
        usable = False
    except FileNotFoundError:
        usable = not folder.exists()
    if not usable:
        shutil.rmtree(folder)


def drop_unusable_objects(filesystem: fs.FileSystem, folder: str) -> None:
    """:func:`drop_unusable` for a folder of an object store."""

    def is_folder(name: str) -> bool:
        return filesystem.get_file_info(f"{folder}/{name}").type == fs.FileType.Directory

    try:
        with filesystem.open_input_stream(f"{folder}/{SNAPSHOT}") as stream:
            usable = _is_usable(stream.read(), is_folder)
    except FileNotFoundError:
        usable = filesystem.get_file_info(folder).type == fs.FileType.NotFound
    if not usable:
        filesystem.delete_dir(folder)


def _is_usable(snapshot: str | bytes, is_folder: Callable[[str], bool]) -> bool:
    try:
        state = json.loads(snapshot)
        names = [result["checkpoint_dir_name"] for result in state["checkpoint_results"]]
        return state["ray_version"] == ray.__version__ and all(
            # Ray Train would follow any path.
            name != ".." and Path(name).name == name and is_folder(name)
            for name in names
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
