"""``ltdd-ray bench QUESTION``: measure, show the ratios beside their targets, write them as JSON.

A question is a module of this room with a function ``measure(repeats) -> list[Result]``.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.table import Table

from ltdd_ray.bench.result import MOST_SPREAD, Result, to_json
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_json
from ltdd_ray.common.terminal import PlainConsole


def run_question(question: str, repeats: int, json_file: Path | None) -> None:
    """Measure ``question`` (matching, distill, experts, evaluate or store) and print its table.

    A warning follows for each ratio whose rounds disagree. A missed target is no error. Raises
    ``UserError`` before anything is measured if ``repeats`` is below 1 or ``json_file`` cannot be
    written.
    """
    if repeats < 1:
        raise UserError(f"--repeats {repeats}: a median needs at least one repeat")
    if json_file is not None and (json_file.is_dir() or not os.access(json_file.parent, os.W_OK)):
        raise UserError(
            f"--json {json_file}: not a file that can be written; "
            "name one in an existing, writable folder"
        )
    results = import_module(f"ltdd_ray.bench.{question}").measure(repeats)
    console = PlainConsole()
    console.print(results_table(question, results))
    for warning in disagreements(results):
        console.print(warning, soft_wrap=True, highlight=False)
    if json_file is not None:
        write_json(json_file, to_json(results))


def results_table(question: str, results: Sequence[Result]) -> Table:
    """A row per result. In a narrow terminal numbers wrap, but names are never cut."""
    table = Table(title=f"bench {question}", box=None, padding=(0, 2, 0, 0))
    table.add_column("what", no_wrap=True)
    for column in ("ratio", "range", "target", ""):
        table.add_column(column, overflow="fold")
    for result in results:
        bound = ">=" if result.better == "higher" else "<="
        table.add_row(
            result.name,
            f"{result.ratio:.3g}",
            f"{result.low:.3g} to {result.high:.3g}",
            f"{bound} {result.target:g}",
            "met" if result.met else "missed",
        )
    return table


def disagreements(results: Sequence[Result]) -> list[str]:
    """A warning for each result whose rounds disagree, as they do on a busy machine."""
    return [
        f"warning: {result.name}: its rounds disagree, {result.low:.3g} to {result.high:.3g} is "
        f"more than {MOST_SPREAD:.0%} of the median {result.ratio:.3g}; measure again on an idle "
        "machine, with more --repeats"
        for result in results
        if not result.rounds_agree
    ]
