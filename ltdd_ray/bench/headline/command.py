"""One slice, from its arguments to its exit code."""

import argparse
from pathlib import Path

from rich.console import Console

from ltdd_ray.bench.headline.clock import Clock, SliceOverError
from ltdd_ray.bench.headline.plan import plan_run
from ltdd_ray.bench.headline.stages import Slice
from ltdd_ray.bench.headline.state import State
from ltdd_ray.common.device import default_device, prepare_process
from ltdd_ray.config import DataConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data

DONE, CALL_AGAIN = 0, 75


def run_slice(options: argparse.Namespace, configs: Path) -> int:
    """:data:`DONE`, or :data:`CALL_AGAIN` where the time was over first. Raises ``UserError`` for settings that do not fit."""
    clock, console = Clock.of(options.minutes), Console()
    runs = [
        plan_run(cell, method, configs, options.data, options.work, options.set)
        for cell in options.cells
        for method in options.methods
    ]
    prepare_process(options.threads)
    state = State.begin(options.out, options.carried, runs)
    part = Slice(clock, state, options.precision, options.processes, console)
    prepared: dict[DataConfig, PreparedData] = {}
    console.print(
        f"on {default_device()}, {options.precision}, {options.minutes:g} minutes", highlight=False
    )
    try:
        for run in runs:
            if not state.finished(run):
                if run.config.data not in prepared:
                    prepared[run.config.data] = prepare_data(run.config)
                part.work_on(run, prepared[run.config.data])
            found = state.entry(run)["accuracy"]
            line = f"{run.name}: {found['mean']:.1f} ± {found['std']:.1f} % over {found['networks']} networks"
            console.print(line, highlight=False, soft_wrap=True)
    except SliceOverError:
        console.print(
            f"{run.name}: {state.updates(run)} updates done; the slice is over, call again with --carried {options.out}"
        )
        return CALL_AGAIN
    return DONE
