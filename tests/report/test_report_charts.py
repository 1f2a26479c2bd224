import re
from xml.etree import ElementTree

import numpy as np
import pytest

from ltdd_ray.report.charts import CURVE_POINTS, axis_limit, bar, line_chart, rank_chart


def svg(markup):
    return ElementTree.fromstring(markup)


def points(element) -> np.ndarray:
    return np.array([pair.split(",") for pair in element.get("points").split()], float)


def y_labels(element) -> dict[str, float]:
    """{text: distance from the top in percent} of the y axis."""
    return {
        text.text: float(text.get("y").rstrip("%"))
        for text in element.iter("text")
        if text.get("class") == "y"
    }


def test_bar_places_mean_whisker_and_marks_on_its_axis():
    drawn = svg(bar(0.3, 0.6, "distilled", "deer: 30.0 %", spread=0.06, marks=[("random", 0.15)]))
    fill = drawn.find("rect[@class='fill distilled']")
    assert fill is not None and fill.get("width") == "50.00%"
    assert [line.get("x1") for line in drawn.iter("line") if line.get("class") == "whisker"] == [
        "40.00%",
        "40.00%",
        "60.00%",
    ]
    assert [
        line.get("x1") for line in drawn.iter("line") if line.get("class") == "mark random"
    ] == ["25.00%"]


def test_bar_stays_inside_its_axis():
    drawn = svg(bar(0.98, 1.0, "distilled", "", spread=0.05))
    assert max(float((line.get("x2") or "").rstrip("%")) for line in drawn.iter("line")) == 100


def test_labels_are_escaped():
    label = '<b> & "quoted"'
    assert svg(bar(1, 1, "stage", label)).get("aria-label") == label
    assert svg(line_chart({"leading": ([1, 2], [1, 2])}, label)).get("aria-label") == label


def test_line_passes_through_its_points():
    drawn = svg(line_chart({"": ([0, 5, 10], [1.0, 2.0, 1.5])}, ""))
    line = next(drawn.iter("polyline"))
    assert y_labels(drawn) == pytest.approx({"1": 100, "1.25": 75, "1.5": 50, "1.75": 25, "2": 0})
    assert points(line) == pytest.approx(np.array([[0, 1000], [500, 0], [1000, 500]]))
    assert not list(drawn.iter("polygon"))


def test_lines_of_a_chart_share_their_axes():
    drawn = svg(line_chart({"short": ([1, 5], [1.0, 2.0]), "long": ([0, 10], [3.0, 1.0])}, ""))
    lines = {line.get("class"): points(line) for line in drawn.iter("polyline")}
    assert lines["curve short"] == pytest.approx(np.array([[100, 1000], [500, 500]]))
    assert lines["curve long"] == pytest.approx(np.array([[0, 0], [1000, 1000]]))


def test_ranks_have_a_band_of_their_spread_that_stays_on_the_axis():
    drawn = svg(
        rank_chart({"a": [80, 40, 5], "b": [100, 0, 0]}, ("head", "tail"), "", {"a": [10, 20, 10]})
    )
    (band,) = drawn.iter("polygon")
    assert band.get("class") == "band a"
    assert points(band) == pytest.approx(
        np.array([[0, 100], [500, 400], [1000, 850], [1000, 1000], [500, 800], [0, 300]])
    )


def test_wide_ranges_get_a_logarithmic_axis():
    drawn = svg(line_chart({"": ([1, 2], [0.1, 10.0])}, ""))
    assert y_labels(drawn) == pytest.approx({"0.1": 100, "1": 50, "10": 0})


def test_many_points_become_means_inside_a_band():
    y = np.where(np.arange(10 * CURVE_POINTS) % 2, 3.0, 1.0)
    drawn = svg(line_chart({"": (range(len(y)), y.tolist())}, ""))
    line, band = points(next(drawn.iter("polyline"))), points(next(drawn.iter("polygon")))
    assert len(line) == CURVE_POINTS
    assert line[:, 1] == pytest.approx(500)
    assert sorted(set(band[:, 1])) == [0, 1000]


@pytest.mark.parametrize("values", [[0.0], [0.01], [-3.0], [5.0, 5.0]])
def test_constant_values_still_make_a_chart(values):
    markup = line_chart({"": (range(len(values)), values)}, "")
    assert len(y_labels(svg(markup))) >= 2
    assert not re.search(r"nan|inf", markup)


@pytest.mark.parametrize(
    ("values", "limit"), [([0.05], 0.1), ([0.2, 0.31], 0.4), ([0.3], 0.3), ([1.02], 1.0)]
)
def test_axis_limit(values, limit):
    assert axis_limit(values) == pytest.approx(limit)
