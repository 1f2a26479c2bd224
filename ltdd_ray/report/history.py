"""The curves of a distillation, from ``history.jsonl``."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text
from ltdd_ray.distill.checks import SCORE, read_checks
from ltdd_ray.report.charts import line_chart

ALONE = ("", "")  # style and name of a line
DISTANCES = {
    "student": ("leading", "student from start"),
    "expert": ("other-0", "expert from start"),
    "left": ("other-1", "student to expert"),
}
CHARTS = {
    "Accuracy on held-out training images": {SCORE: ALONE},
    "Matching loss": {"loss/total": ALONE},
    "Representation phase": {"loss/representation": ALONE},
    "Classifier phase": {"loss/classifier": ALONE},
    "Distance of mean embeddings": {"loss/distance": ALONE},
    "Cross-entropy of the pictures": {"loss/class": ALONE},
    "Learned rate": {"syn_lr": ALONE},
    "Representation phase, distances of weights": {
        f"distance/representation/{name}": line for name, line in DISTANCES.items()
    },
    "Classifier phase, distances of weights": {
        f"distance/classifier/{name}": line for name, line in DISTANCES.items()
    },
}


@dataclass(frozen=True)
class Line:
    """One quantity over the updates, with its first and last value.

    ``name`` is empty for the only line of a chart.
    """

    style: str
    name: str
    first: float
    last: float


@dataclass(frozen=True)
class Curve:
    """One chart and its lines."""

    title: str
    lines: list[Line]
    chart: Markup


def curves(path: Path) -> list[Curve]:
    """The charts that have any finite value, checks on held-out images first.

    Empty where there is no file.

    Raises ``UserError`` for a line that is not JSON.
    """
    updates = _read(path) if path.exists() else []
    updates += read_checks(path.parent)
    return [
        curve
        for title, quantities in CHARTS.items()
        if (curve := _curve(updates, title, quantities))
    ]


def _curve(
    updates: list[dict[str, Any]], title: str, quantities: dict[str, tuple[str, str]]
) -> Curve | None:
    drawn: dict[str, tuple[list[int], list[float]]] = {}
    lines = []
    for key, (style, name) in quantities.items():
        known = [u for u in updates if _finite(u.get(key))]
        if known:
            drawn[style] = [u["update"] for u in known], [u[key] for u in known]
            lines.append(Line(style, name, known[0][key], known[-1][key]))
    if not drawn:
        return None
    first, last = min(x[0] for x, _ in drawn.values()), max(x[-1] for x, _ in drawn.values())
    said = "; ".join(
        f"{line.name} from {line.first:.3g} to {line.last:.3g}".strip() for line in lines
    )
    return Curve(title, lines, line_chart(drawn, f"{title} over updates {first} to {last}: {said}"))


def _read(path: Path) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: line {number} is not JSON ({error}); remove the line"
            ) from None
    return records


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
