"""The three stages of a run, each up to the end of the slice."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ltdd_ray.bench.headline.clock import Clock
from ltdd_ray.bench.headline.experts import train_missing
from ltdd_ray.bench.headline.plan import Run
from ltdd_ray.bench.headline.state import State
from ltdd_ray.bench.precision import Precision, computing_in
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.trajectory.loop import UpdateReport, distill
from ltdd_ray.distill.trajectory.synthetic import SyntheticSet
from ltdd_ray.evaluate.train import evaluate_network
from ltdd_ray.runs.progress import StageProgress


@dataclass(frozen=True)
class Slice:
    """The means of one slice: its end, the folder that travels, the precision, and expert processes at once."""

    clock: Clock
    state: State
    precision: Precision
    processes: int
    console: Console

    def work_on(self, run: Run, data: PreparedData) -> None:
        """Bring ``run`` to its end. Raises ``SliceOverError`` where time does not suffice."""
        if run.distils and self.state.updates(run) < run.config.distill.updates:
            self._timed(run, "experts", lambda: self._train(run, data))
            self._timed(run, "distill", lambda: self._distill(run, data))
        self._timed(run, "evaluate", lambda: self._evaluate(run, data))

    def _timed(self, run: Run, stage: str, work: Callable[[], None]) -> None:
        """Record what the slice spent on a stage, however it ended."""
        began = time.monotonic()
        try:
            work()
        finally:
            self.state.add_time(
                run,
                self.precision,
                stage,
                time.monotonic() - began,
                updates=self.state.updates(run),
            )

    def _train(self, run: Run, data: PreparedData) -> None:
        with StageProgress(
            "experts", run.config.experts.count, "experts", self.console
        ) as progress:
            train_missing(run.config, data, self.processes, self.precision, self.clock, progress)

    def _distill(self, run: Run, data: PreparedData) -> None:
        state, updates = self.state, run.config.distill.updates

        def on_checkpoint(write: Callable[[Path], None], update: int) -> None:
            state.keep_checkpoint(run, write, update)
            if update < updates:
                self.clock.require()

        with (
            StageProgress("distill", updates, "updates", self.console) as progress,
            computing_in(self.precision),
        ):

            def on_update(report: UpdateReport, synthetic: SyntheticSet) -> None:
                metrics = report.metrics
                progress.update(
                    "updates",
                    report.update,
                    f"loss {metrics['loss/total']:.4f}, rate {metrics['syn_lr']:.4g}",
                )

            distill(
                run.config,
                data,
                on_update=on_update,
                on_checkpoint=on_checkpoint,
                on_initial=lambda initial, said: self.console.print(
                    *said, sep="\n", highlight=False
                ),
                resume_from=state.checkpoint(run),
            )

    def _evaluate(self, run: Run, data: PreparedData) -> None:
        """Networks train in float32, whatever the rest is in: they are what is reported."""
        if run.distils:
            self.state.distilled(run, data).save(run.config.folder / "distilled")
        evaluate, longest = run.config.evaluate, 0.0
        found = {(network.set_name, network.network) for network in self.state.networks(run)}
        wanted = [(set_name, k) for set_name in evaluate.sets for k in range(evaluate.networks)]
        with (
            StageProgress("evaluate", len(wanted), "networks", self.console) as progress,
            computing_in("float32"),
        ):
            for set_name, k in wanted:
                if (set_name, k) in found:
                    continue
                self.clock.require(longest)
                result = evaluate_network(
                    run.config, data, set_name, run.config.model.label, k, lambda report: None
                )
                self.state.add_network(run, result)
                longest = max(longest, result.seconds)
                progress.update(
                    (set_name, k), 1, f"network {k} on {set_name}: {100 * result.accuracy:.1f} %"
                )
