"""A whole run in one process, on a machine without Ray: experts, distilled set, evaluation.

    python benchmarks/without_ray.py CONFIG [--set a.b=c ...] [--minutes N]

It calls the functions that `ltdd-ray run` calls on Ray's workers. The distilled set and the
accuracies are the same (where `compute.num_workers` is above 1, up to the order of sums). The work
has units: an expert, the updates up to the next checkpoint, an evaluation network. When --minutes
are over, no further unit begins and the exit code is 75. The same command then goes on, as it does
after a kill: on this machine, or on another one with a copy of the run's folder. There the experts
may be missing; the same ones are then trained again from their seeds.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ltdd_ray.common.device import prepare_process
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_json
from ltdd_ray.config import RunConfig, fingerprint
from ltdd_ray.config.loading import load_config
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.checkpoint import PROGRESS
from ltdd_ray.distill.distribution import runner
from ltdd_ray.distill.trajectory.loop import distill
from ltdd_ray.evaluate.held_out import make_checks
from ltdd_ray.evaluate.results import summarise
from ltdd_ray.evaluate.train import NetworkResult, evaluate_network
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.norms import expert_classifier_norms
from ltdd_ray.experts.plan import missing_experts
from ltdd_ray.methods import name_note
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.remote import mirrored_distillation, remote_run

STOPPED = 75


class TimeOverError(Exception):
    """The time is over; what is done is in the run's folder."""


class Timer:
    """Lets units of work begin until the time is over, but always the first one."""

    def __init__(self, minutes: float) -> None:
        self._end, self._begun = time.monotonic() + 60 * minutes, False

    def begin_unit(self) -> None:
        if self._begun and time.monotonic() >= self._end:
            raise TimeOverError
        self._begun = True


def run(config: RunConfig, timer: Timer) -> float:
    """Bring the run to its end and return its accuracy, 0..1."""
    prepare_process(config.compute.threads)
    with remote_run(config, lambda sentence: print(sentence, flush=True)):
        return _run(config, timer)


def _run(config: RunConfig, timer: Timer) -> float:
    data, folder = prepare_data(config), RunFolder.open(config)
    for expert in missing_experts(config, data.train) if config.needs_experts else []:
        timer.begin_unit()
        run_expert(config, data, expert, lambda report: None)
        print(f"expert {expert} of {config.experts.count} is trained", flush=True)
    if config.distils and not (folder.distilled / "distilled.json").exists():
        timer.begin_unit()
        if config.matches:
            match_trajectories(config, data, folder.distilled, timer)
        else:  # minutes in all, so it is one unit; it has checkpoints too
            with mirrored_distillation(config) as push:
                runner.run_distribution(
                    config,
                    data,
                    lambda report: None,
                    lambda done: make_checks(config, data, done, print),
                    push,
                ).save(folder.distilled)
    networks = evaluate(config, data, folder, timer)
    known = {"expert_classifier_norms": expert_classifier_norms(config, data.train)}
    results = summarise(config, data.train, networks, {**folder.information(), **known})
    write_json(folder.results, results)
    return results["accuracy"]["mean"]


def match_trajectories(config: RunConfig, data: PreparedData, folder: Path, timer: Timer) -> None:
    with mirrored_distillation(config) as push:
        _match_trajectories(config, data, folder, timer, push)


def _match_trajectories(
    config: RunConfig, data: PreparedData, folder: Path, timer: Timer, push: Callable[[], None]
) -> None:
    def on_checkpoint(write: Callable[[Path], None], update: int) -> None:
        runner.keep_checkpoint(folder / "checkpoints", write, update)
        push()
        print(f"{update} of {config.distill.updates} updates are done", flush=True)
        if update < config.distill.updates:
            timer.begin_unit()

    resume_from = runner.latest_checkpoint(folder / "checkpoints")
    done = json.loads((resume_from / PROGRESS).read_text())["update"] if resume_from else 0
    distill(
        config,
        data,
        on_update=lambda report, synthetic: None,
        on_checkpoint=on_checkpoint,
        on_initial=lambda initial, said: print(initial.save(folder, "initial"), *said, sep="\n"),
        resume_from=resume_from,
        checks=make_checks(config, data, done, print),
    ).save(folder)


def evaluate(
    config: RunConfig, data: PreparedData, folder: RunFolder, timer: Timer
) -> list[NetworkResult]:
    """Train the networks that have no JSON record yet; a record is that of one distilled set."""
    tensors = folder.distilled / "distilled.safetensors"
    distilled = hashlib.sha256(tensors.read_bytes()).hexdigest() if config.distils else ""
    identity = fingerprint(data.train.fingerprint, data.evaluation.fingerprint, distilled)
    own, *others = config.evaluation_models
    sets, networks = config.evaluate.sets, []
    for set_name, model in [(name, own) for name in sets] + [(sets[0], other) for other in others]:
        for k in range(config.evaluate.networks):
            record = folder.evaluation / identity / f"{set_name}-{model}-{k}.json"
            if not record.exists():
                timer.begin_unit()
                found = evaluate_network(config, data, set_name, model, k, lambda report: None)
                record.parent.mkdir(parents=True, exist_ok=True)
                write_json(record, found.to_json())
                print(f"network {k} on {set_name}: {100 * found.accuracy:.1f} %", flush=True)
            networks.append(NetworkResult.from_json(json.loads(record.read_text())))
    return networks


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    options = parser.parse_args(arguments)
    timer = Timer(options.minutes)
    try:
        config = load_config(options.config, options.set)
        if note := name_note(config):
            print(f"note: {note}", flush=True)
        print(f"accuracy {100 * run(config, timer):.1f} %; details in {config.folder}/results.json")
    except TimeOverError:
        print(f"{options.minutes:g} minutes are over; the same command goes on from here")
        return STOPPED
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
