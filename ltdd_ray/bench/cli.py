"""``ltdd-ray bench``: run one measure, show its ratios beside their targets, write them as JSON."""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ltdd_ray.bench.result import Result, to_json
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_json


def bench(question: str, repeats: int, json_file: str | None) -> None:
    """Measure and print; a missed target is no error.

    Raises ``UserError`` before anything is measured if ``repeats`` is below 1 or the JSON cannot be written.
    """
    if repeats < 1:
        raise UserError(f"--repeats {repeats}: a median needs at least one repeat")
    output = Path(json_file) if json_file is not None else None
    if output is not None and (output.is_dir() or not os.access(output.parent, os.W_OK)):
        raise UserError(
            f"--json {json_file}: not a file that can be written; name one in an existing, writable folder"
        )
    results = import_module(f"ltdd_ray.bench.{question}").measure(repeats)
    Console().print(render(question, results))
    if output is not None:
        write_json(output, to_json(results))


def render(question: str, results: Sequence[Result]) -> Table:
    table = Table(
        "what",
        "ratio",
        "range",
        "target",
        "",
        title=f"bench {question}",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for result in results:
        bound = "at least" if result.better == "higher" else "at most"
        spread = f"{result.low:.3g} to {result.high:.3g}"
        verdict = "met" if result.met else "missed"
        table.add_row(
            result.name, f"{result.ratio:.3g}", spread, f"{bound} {result.target:g}", verdict
        )
    return table
