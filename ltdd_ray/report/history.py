"""The updates of a distillation, from ``history.jsonl`` to curves."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ltdd_ray.errors import UserError
from ltdd_ray.report.charts import line_chart

TITLES = {
    "loss/total": "Matching loss",
    "loss/representation": "Representation phase",
    "loss/classifier": "Classifier phase",
    "loss/distance": "Distance of mean embeddings",
    "loss/class": "Cross-entropy of the pictures",
    "syn_lr": "Learned rate",
}


@dataclass(frozen=True)
class Curve:
    """One recorded quantity over the updates: its first and last value and its chart."""

    title: str
    first: float
    last: float
    chart: Markup


def curves(path: Path) -> list[Curve]:
    """A curve for each of the titled quantities that has a finite value; none where there is no file.

    Raises ``UserError`` naming the line that is not JSON.
    """
    if not path.exists():
        return []
    updates = _read(path)
    points = {key: [(u["update"], u[key]) for u in updates if _finite(u.get(key))] for key in TITLES}
    return [_curve(TITLES[key], *zip(*pairs)) for key, pairs in points.items() if pairs]


def _curve(title: str, x: tuple[int, ...], y: tuple[float, ...]) -> Curve:
    label = f"{title} over updates {x[0]} to {x[-1]}: from {y[0]:.3g} to {y[-1]:.3g}"
    return Curve(title, y[0], y[-1], line_chart(x, y, label))


def _read(path: Path) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}: line {number} is not JSON ({error.msg}); remove that line, the report needs no other"
            ) from None
    return records


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
