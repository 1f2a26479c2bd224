import json

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.report.history import curves


def test_no_file_no_curves(tmp_path):
    assert curves(tmp_path / "history.jsonl") == []


def test_absent_null_and_non_finite_values_are_skipped(tmp_path):
    path = tmp_path / "history.jsonl"
    records = [
        '{"update": 1, "loss/total": 0.9}',
        '{"update": 2, "loss/total": NaN, "syn_lr": null}',
        '{"update": 3, "loss/total": 0.8}',
    ]
    path.write_text("\n".join(records))
    (curve,) = curves(path)
    assert curve.title == "Matching loss"
    assert [(line.name, line.first, line.last) for line in curve.lines] == [("", 0.9, 0.8)]
    assert "nan" not in curve.chart


def test_the_distances_of_a_phase_are_lines_of_one_chart(tmp_path):
    path = tmp_path / "history.jsonl"
    ways = [{"student": 1.0 / u, "expert": 2.0, "left": 3.0 - u} for u in (1, 2)]
    records = [
        {"update": u, **{f"distance/classifier/{way}": d for way, d in one.items()}}
        for u, one in enumerate(ways, 1)
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    (curve,) = curves(path)
    assert curve.title == "Classifier phase, distances of weights"
    assert [(line.name, line.first, line.last) for line in curve.lines] == [
        ("student from start", 1.0, 0.5),
        ("expert from start", 2.0, 2.0),
        ("student to expert", 2.0, 1.0),
    ]
    assert curve.chart.count("<polyline") == 3


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"update": 1, "loss/total": 1}\n{"upd')
    with pytest.raises(UserError, match=r"history.jsonl: line 2 is not JSON"):
        curves(path)
