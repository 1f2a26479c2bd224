"""Charts of points as inline SVG, under the same rules as :mod:`ltdd_ray.report.charts`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from ltdd_ray.report.charts import gridline, number, ticks, x_label

EDGE = 40  # of the 1000 units of a chart, so that no dot is cut
LABELS_APART = 0.14  # of the width of the x axis


def recall_chart(
    images: Sequence[int],
    names: Sequence[str],
    recalls: Mapping[str, Sequence[float]],
    spread: Sequence[float | None],
    limit: float,
    label: str,
) -> Markup:
    """A dot for each class: x its number of training images (logarithmic), y its recall 0..limit.

    ``recalls`` is {style: recalls 0..1}; later styles lie above earlier ones. The last style has
    whiskers of ± ``spread``. Pointing at a dot shows the class and its numbers.
    """
    low, high = math.log10(min(images)), math.log10(max(images))
    span = (high - low) or 1.0

    def across(count: float) -> float:
        return (4 + 92 * (math.log10(count) - low) / span) / 100

    def down(recall: float) -> float:
        return 1 - min(max(recall / limit, 0.0), 1.0)

    parts = [gridline(down(tick), number(100 * tick)) for tick in ticks(0, limit) if tick <= limit]
    placed: list[float] = []
    # The ends first, then the round numbers that keep a distance from them.
    for tick in (min(images), max(images), *_round_numbers(min(images), max(images))):
        if all(abs(across(tick) - other) > LABELS_APART for other in placed):
            placed.append(across(tick))
            parts.append(x_label(placed[-1], number(tick)))
    for style, values in recalls.items():
        last = style == list(recalls)[-1]
        for count, name, value, deviation in zip(images, names, values, spread):
            x, y = f"{100 * across(count):.2f}%", f"{100 * down(value):.2f}%"
            if last and deviation:
                ends = (down(value - deviation), down(value + deviation))
                parts.append(
                    Markup('<line class="reach" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                        x, *(f"{100 * end:.2f}%" for end in ends)
                    )
                )
            parts.append(
                Markup(
                    '<circle class="dot {}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>'
                ).format(style, x, y, f"{name}: {100 * value:.1f} %, {count:,} images")
            )
    return Markup('<svg class="plot" role="img" aria-label="{}">{}</svg>').format(
        label, Markup("").join(parts)
    )


def point_chart(layers: Mapping[str, np.ndarray], label: str) -> Markup:
    """A square of dots for each style of ``layers``: {style: (points, 2) in 0..1000, y downwards}.

    Later layers lie above earlier ones.
    """
    # A line of no length with round ends is a dot that keeps its size on every screen.
    paths = [
        Markup('<path class="dots {}" vector-effect="non-scaling-stroke" d="{}"/>').format(
            style, "".join(f"M{x} {y}h0" for x, y in points.round().astype(int).tolist())
        )
        for style, points in layers.items()
        if len(points)
    ]
    return Markup(
        '<svg class="map" role="img" viewBox="0 0 1000 1000" aria-label="{}">{}</svg>'
    ).format(label, Markup("").join(paths))


def on_chart(points: np.ndarray, of: np.ndarray) -> np.ndarray:
    """``points`` (N, 2) in the units of :func:`point_chart`, so that all of ``of`` (M, 2) fit.

    x and y have one scale, since distances are compared.
    """
    low, high = of.min(0), of.max(0)
    scale = (1000 - 2 * EDGE) / (float((high - low).max()) or 1.0)
    return 500 + (points - (low + high) / 2) * scale * np.array([1, -1])


def _round_numbers(low: int, high: int) -> list[int]:
    """1, 2 and 5 times the powers of ten, between ``low`` and ``high``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    candidates = [10**power * step for step in (1, 5, 2) for power in powers]
    return [candidate for candidate in candidates if low < candidate < high]
