"""Charts as inline SVG, with the colours and fonts of the page's style sheet.

Positions are percentages of the width and height of a chart. Strokes and text have fixed sizes, so
a chart is readable on a phone and on a desktop. A screen reader reads the ``label`` of a chart.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from markupsafe import Markup

CURVE_POINTS = 200


def bar(
    length: float,
    limit: float,
    style: str,
    label: str,
    spread: float | None = None,
    marks: Sequence[tuple[str, float]] = (),
) -> Markup:
    """One horizontal bar on an axis 0..limit.

    It has a whisker of ± ``spread``, if there is one, and a tick for each (style, value) of
    ``marks``.
    """
    parts = [
        Markup('<rect class="track" width="100%" height="100%"/>'),
        Markup('<rect class="fill {}" width="{}" height="100%"/>').format(
            style, _percent(length, limit)
        ),
    ]
    for mark_style, value in marks:
        line = Markup('<line class="mark {0}" x1="{1}" x2="{1}" y1="-2" y2="18"/>').format(
            mark_style, _percent(value, limit)
        )
        parts += [line.replace("mark", "halo", 1), line]
    if spread:
        low, high = _percent(length - spread, limit), _percent(length + spread, limit)
        parts.append(
            Markup('<line class="whisker" x1="{0}" x2="{1}" y1="50%" y2="50%"/>').format(low, high)
        )
        parts += [
            Markup('<line class="whisker" x1="{0}" x2="{0}" y1="25%" y2="75%"/>').format(end)
            for end in (low, high)
        ]
    return Markup('<svg class="bar" role="img" aria-label="{}">{}</svg>').format(
        label, Markup("").join(parts)
    )


def line_chart(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], label: str) -> Markup:
    """A line for each style in ``lines``: {style: (x ascending from 0 or more, y)}, all finite.

    The y axis is logarithmic where the values of all lines span more than a factor of 30. A line of
    ``2 * CURVE_POINTS`` points or more shows the means of equal parts, in a band from their minimum
    to their maximum.
    """
    end = max(x[-1] for x, _ in lines.values())
    least, greatest = (extreme([extreme(y) for _, y in lines.values()]) for extreme in (min, max))
    logarithmic = least > 0 and greatest / least > 30
    scale = np.log10 if logarithmic else np.asarray
    x_ticks = [tick for tick in ticks(0, end) if tick <= end]
    y_ticks = _decades(least, greatest) if logarithmic else ticks(least, greatest)
    bottom, top = scale([y_ticks[0], y_ticks[-1]])

    def across(value):
        return np.asarray(value) / (end or 1)

    def down(value):
        return (top - scale(value)) / (top - bottom)

    def points(x: np.ndarray, y: np.ndarray) -> str:
        return " ".join(f"{1000 * a:.1f},{1000 * d:.1f}" for a, d in zip(across(x), down(y)))

    def line(style: str, x: Sequence[float], y: Sequence[float]) -> Markup:
        size = max(1, len(x) // CURVE_POINTS)
        _, x_mean, _ = _summaries(x, size)
        low, mean, high = _summaries(y, size)
        band = (
            _band(style, f"{points(x_mean, high)} {points(x_mean[::-1], low[::-1])}")
            if size > 1
            else Markup("")
        )
        return band + _curve(style, points(x_mean, mean))

    labels = [gridline(float(down(tick)), number(tick)) for tick in y_ticks]
    labels += [x_label(float(across(tick)), number(tick)) for tick in x_ticks]
    return _plot(label, labels, [line(style, *one) for style, one in lines.items()])


def rank_chart(
    series: Mapping[str, Sequence[float]],
    ends: tuple[str, str],
    label: str,
    spreads: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Markup:
    """A line for each style in ``series``: {style: values of 0 or more}, on one axis from 0.

    All series have the same length of at least two. ``ends`` are the labels of the first and last
    position. A style in ``spreads`` gets a band of ± these values around its line.
    """
    y_ticks = ticks(0, max(max(values) for values in series.values()))
    labels = [gridline(1 - tick / y_ticks[-1], number(tick)) for tick in y_ticks]
    labels += [x_label(across, end) for across, end in zip((0, 1), ends)]

    def points(values: Sequence[float]) -> list[str]:
        heights = (1 - min(max(value / y_ticks[-1], 0.0), 1.0) for value in values)
        return [
            f"{1000 * i / (len(values) - 1):.1f},{1000 * height:.1f}"
            for i, height in enumerate(heights)
        ]

    def band(style: str, spread: Sequence[float]) -> Markup:
        low, high = (
            [value + sign * s for value, s in zip(series[style], spread)] for sign in (-1, 1)
        )
        return _band(style, " ".join([*points(high), *points(low)[::-1]]))

    bands = [band(*one) for one in spreads.items()]
    return _plot(
        label,
        labels,
        bands + [_curve(style, " ".join(points(values))) for style, values in series.items()],
    )


def upper_end(accuracy: Mapping[str, Any]) -> float:
    """The end of a bar's whisker: mean plus standard deviation, or the mean if there is none."""
    return accuracy["mean"] + (accuracy["std"] or 0.0)


def axis_limit(values: Sequence[float]) -> float:
    """The end of the axis: the smallest tenth that is not below any of the accuracies 0..1."""
    return min(1.0, max(0.1, math.ceil(10 * max(values) - 1e-9) / 10))


def _plot(label: str, labels: Sequence[Markup], lines: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="plot" role="img" aria-label="{}">{}'
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="100%">'
        "{}</svg></svg>"
    ).format(label, Markup("").join(labels), Markup("").join(lines))


def _curve(style: str, points: str) -> Markup:
    return Markup('<polyline class="{}" vector-effect="non-scaling-stroke" points="{}"/>').format(
        f"curve {style}".strip(), points
    )


def _band(style: str, points: str) -> Markup:
    return Markup('<polygon class="{}" points="{}"/>').format(f"band {style}".strip(), points)


def gridline(down: float, text: str) -> Markup:
    return Markup(
        '<line class="grid" x2="100%" y1="{0}" y2="{0}"/>'
        '<text class="y" x="-8" y="{0}" dy=".32em">{1}</text>'
    ).format(f"{100 * down:.2f}%", text)


def x_label(across: float, text: str) -> Markup:
    return Markup('<text class="x" x="{}" y="100%" dy="1.6em">{}</text>').format(
        f"{100 * across:.2f}%", text
    )


def _percent(value: float, limit: float) -> str:
    return f"{100 * min(max(value / limit, 0.0), 1.0):.2f}%"


def _summaries(values: Sequence[float], size: int) -> np.ndarray:
    """Minimum, mean and maximum of every ``size`` successive values, (3, parts)."""
    parts = [np.asarray(values[i : i + size], float) for i in range(0, len(values), size)]
    return np.array([(part.min(), part.mean(), part.max()) for part in parts]).T


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers, from ``low`` or less to ``high`` or more."""
    span = high - low or abs(high) or 1.0
    rough = span / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _decades(low: float, high: float) -> list[float]:
    return [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
