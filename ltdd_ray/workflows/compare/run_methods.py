"""``ltdd-ray compare``: run every method in one Ray session and write the tables after each."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from rich.console import Console

from ltdd_ray.cluster.image_cache import ray_writer
from ltdd_ray.cluster.session import ray_session
from ltdd_ray.common.files import read_text, write_atomic, write_json
from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.evaluate.results import spread_scores
from ltdd_ray.evaluate.robustness import compared_robustness
from ltdd_ray.report.comparison import write_comparison
from ltdd_ray.report.finished import fitting_files
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.workflows.compare.at_once import MethodConfigs, require_room, run_at_once
from ltdd_ray.workflows.compare.plan import plan_comparison
from ltdd_ray.workflows.compare.table import (
    Row,
    as_csv,
    as_json,
    as_markdown,
    as_text,
    experts_rows,
    method_rows,
)
from ltdd_ray.workflows.pipeline import (
    absolute,
    require_folder,
    require_lasting_output,
    run_stages,
)
from ltdd_ray.workflows.stages import STAGES


def compare(base: RunConfig, methods: Sequence[str], console: Console | None = None) -> None:
    """Run ``methods`` under ``base``.

    Writes compare.html, .md, .csv and .json to the folder of ``base``, again after each method.
    Finished stages are not repeated. Raises ``UserError`` before any work for an unknown method, an
    empty list, unusable data, and a folder with other files. An error in one run ends the
    comparison; the tables then hold the methods that finished before.
    """
    console = console or PlainConsole()
    require_lasting_output(base)
    require_folder(base, "compare")
    configs = plan_comparison(base, methods)
    for config in configs.values():
        RunFolder(config.folder).check_owner(config)

    def tell(sentence: str) -> None:
        console.print(f"data: {sentence}", soft_wrap=True, highlight=False)

    data = prepare_data(base, ray_writer(base.compute), tell)
    for note in data.notes:
        tell(f"note: {note}")
    data = replace(data, notes=())  # said once, not again by every method
    finished: set[str] = set()
    rows: list[Row] = []
    with ExitStack() as session:
        run_all = _one_by_one if base.compute.methods_at_once == 1 else _at_once
        for method in run_all(configs, data, console, session):
            finished.add(method)
            console.print(
                f"compare: {method} is finished, {len(finished)} of {len(configs)}", highlight=False
            )
            # In the order of `methods`, not in that of finishing.
            rows = _write_tables(base, [c for name, c in configs.items() if name in finished])
    console.print(as_text(base, rows))
    console.print(
        f"compare: finished, {base.folder / 'compare.html'}", soft_wrap=True, highlight=False
    )


def _one_by_one(
    configs: MethodConfigs, data: PreparedData, console: Console, session: ExitStack
) -> Iterator[str]:
    for method, config in configs.items():
        console.print(f"compare: {method}", highlight=False)
        run_stages(config, data, tuple(STAGES), TextOutput(console), session)
        yield method


def _at_once(
    configs: MethodConfigs, data: PreparedData, console: Console, session: ExitStack
) -> Iterator[str]:
    compute = next(iter(configs.values())).compute
    session.enter_context(ray_session(compute, compute.methods_at_once * data.bytes_in_memory))
    require_room(compute)
    return run_at_once(
        {method: absolute(config) for method, config in configs.items()},
        data,
        compute,
        lambda line: console.print(line, soft_wrap=True, highlight=False, markup=False),
    )


def _write_tables(base: RunConfig, finished: Sequence[RunConfig]) -> list[Row]:
    results = []
    for config in finished:
        with fitting_files(config.folder):  # an altered file is named before any table is made
            results.append(json.loads(read_text(RunFolder(config.folder).results)))
            method_rows([config], results[-1:])
    rows = method_rows(finished, results) + experts_rows(finished, results)
    write_atomic(base.folder / "compare.md", as_markdown(base, rows))
    write_atomic(base.folder / "compare.csv", as_csv(rows))
    write_json(base.folder / "compare.json", as_json(base, rows))
    write_comparison(
        [config.folder for config in finished],
        base.folder / "compare.html",
        [spread_scores(scores) for scores in compared_robustness(results)],
    )
    return rows
