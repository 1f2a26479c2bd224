import pytest

from ltdd_ray.errors import UserError
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
    assert (curve.title, curve.first, curve.last) == ("Matching loss", 0.9, 0.8)
    assert "nan" not in curve.chart


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"update": 1, "loss/total": 1}\n{"upd')
    with pytest.raises(UserError, match=r"history.jsonl: line 2 is not JSON"):
        curves(path)
