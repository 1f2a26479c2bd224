"""The sections on single classes and on coverage, by hand-made counts and points."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reportkit import CLASS_NAMES, CONFUSION, FEATURE_MAP, Page, results, write_run

from ltdd_ray.report.classes import MATRIX_CLASSES, confusions, recall_by_images
from ltdd_ray.report.page import is_current, write_report
from ltdd_ray.report.scatter import on_chart

STYLES = {"distilled": "leading", "random": "random"}


def text_of(folder: Path) -> str:
    return " ".join(Page(write_report(folder).read_text()).text.split())


def many_classes(count: int) -> dict[str, Any]:
    """Results of ``count`` classes: class k has 1000 - k images, half are taken for class 0."""
    pairs = [pair for k in range(1, count) for pair in ([k, 0, 1.0], [k, k, 1.0])]
    return {
        "class_names": [f"c{k}" for k in range(count)],
        "class_counts": [1000 - k for k in range(count)],
        "confusion": [[0, 0, 2.0], *pairs],
    }


def test_the_matrix_has_shares_of_the_true_class_from_head_to_tail() -> None:
    found = confusions(results())
    head_to_tail = [CLASS_NAMES[k] for k in (1, 3, 0, 2)]
    assert found["classes"] == list(found["matrix"]) == head_to_tail
    assert found["matrix"][CLASS_NAMES[1]] == pytest.approx([0.995, 0, 0.005, 0])
    assert found["matrix"][CLASS_NAMES[2]] == pytest.approx([0.65, 0, 0, 0.35])
    assert found["groups"]["few"] == pytest.approx({"many": 0.65, "medium": 0, "few": 0.35})
    assert found["groups"]["medium"] == pytest.approx({"many": 0.425, "medium": 0.575, "few": 0})
    assert [pair[:2] for pair in found["pairs"]] == [
        (CLASS_NAMES[2], CLASS_NAMES[1]),
        (CLASS_NAMES[0], CLASS_NAMES[1]),
        (CLASS_NAMES[3], CLASS_NAMES[1]),
        (CLASS_NAMES[1], CLASS_NAMES[0]),
    ]
    assert found["pairs"][0][2:] == pytest.approx((0.65, 6.5))


def test_the_page_shows_the_matrix(tmp_path: Path) -> None:
    text = text_of(write_run(tmp_path))
    assert '<b>bold</b> 99 <1 it\'s "quoted" 40 60 plane 45 55 deer & doe 65 35' in text
    assert "Few-shot 65.0 0.0 35.0" in text
    assert "True class Predicted % Images deer & doe <b>bold</b> 65.0 6.5" in text


def test_a_class_without_test_images_has_a_column_but_no_row() -> None:
    found = confusions(results() | {"confusion": [one for one in CONFUSION if one[0] != 2]})
    assert CLASS_NAMES[2] in found["classes"] and CLASS_NAMES[2] not in found["matrix"]
    assert "few" not in found["groups"]


@pytest.mark.parametrize("count", [MATRIX_CLASSES, MATRIX_CLASSES + 1])
def test_many_classes_are_a_picture(count: int) -> None:
    found = confusions(results() | many_classes(count))
    assert bool(found["matrix"]) == (count == MATRIX_CLASSES) == (found["picture"] is None)
    if found["picture"]:
        content = base64.b64decode(found["picture"].partition(",")[2])
        with Image.open(io.BytesIO(content)) as picture:
            opacity = np.asarray(picture)[..., 3]
        half = round(255 * 0.5**0.5)
        assert opacity[0, 0] == 255 and set(opacity[1:, 0]) == {half}
        assert set(np.diag(opacity)[1:]) == {half} and np.count_nonzero(opacity) == 2 * count - 1


def test_results_without_confusions_have_no_such_section(tmp_path: Path) -> None:
    old = results()
    del old["confusion"]
    page = Page(write_report(write_run(tmp_path, old)).read_text())
    sections = [section["id"] for section in page.all("section")]
    assert "confusions" not in sections and "coverage" in sections


def test_recall_rises_with_the_number_of_images() -> None:
    found = results()
    # Exactly 10 points for each tenfold number of images.
    found["class_counts"] = [10, 1000, 100, 10000]
    found["sets"]["distilled"]["per_class"]["mean"] = [0.4, 0.6, 0.5, 0.7]
    found["sets"]["random"]["per_class"]["mean"] = [0.3] * 4
    shown = recall_by_images(found, STYLES, 1.0)
    assert shown["slopes"] == pytest.approx({"distilled": 0.1, "random": 0.0}, abs=1e-9)
    dots = [dot for dot in Page(shown["chart"]).all("circle") if dot["class"] == "dot leading"]
    places = sorted((float(str(d["cx"])[:-1]), float(str(d["cy"])[:-1])) for d in dots)
    assert np.diff(np.array(places), axis=0) == pytest.approx(
        np.array([[92 / 3, -10]] * 3), abs=0.02
    )
    assert "10,000 images" in Page(shown["chart"]).text


def test_equal_classes_have_no_slope() -> None:
    found = results() | {"class_counts": [50] * 4}
    assert recall_by_images(found, STYLES, 1.0)["slopes"] == {}


def test_unmeasured_classes_have_no_dot() -> None:
    found = results()
    for one in found["sets"].values():
        one["per_class"]["mean"][0] = one["per_class"]["std"][0] = None
    assert len(Page(recall_by_images(found, STYLES, 1.0)["chart"]).all("circle")) == 2 * 3


def test_coverage_shows_every_point_once_in_each_map(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path)).read_text())
    maps = [svg["aria-label"] for svg in page.all("svg") if svg.get("class") == "map"]
    assert maps[0] == "5 real images and 4 of the set"
    assert maps[1] == "<b>bold</b>: 2 real images, 1 of the set"
    dots = dict.fromkeys(("behind", "real", "own"), 0)
    for path in page.all("path"):
        dots[str(path["class"]).split()[1]] += str(path["d"]).count("M")
    # The map of all has 5 and 4; each of the four others has 5 real images, and all of them 4 more.
    assert dots == {"behind": 4 * 5 - 5, "real": 5 + 5, "own": 4 + 4}
    assert "with 40.0 and 25.0 % of their variance" in " ".join(page.text.split())


def test_points_keep_their_distances_and_fit() -> None:
    points = np.array([[row[1], row[2]] for row in (*FEATURE_MAP["real"], *FEATURE_MAP["set"])])
    placed = on_chart(points, points)
    assert placed.min() >= 0 and placed.max() <= 1000
    ratio = np.ptp(placed, 0) / np.ptp(points, 0)
    assert ratio[0] == pytest.approx(ratio[1])
    assert placed[1, 1] < placed[3, 1], "y runs downwards on a chart"


@pytest.mark.parametrize("content", ['{"identity": "of an earlier evaluation"}', "{", "[]"])
def test_another_evaluations_map_is_left_out(tmp_path: Path, content: str) -> None:
    folder = write_run(tmp_path)
    write_report(folder)
    assert is_current(folder)
    (folder / "evaluation" / "feature_map.json").write_text(content)
    assert not is_current(folder)
    page = Page(write_report(folder).read_text())
    assert "coverage" not in [section["id"] for section in page.all("section")]


def test_a_map_that_lacks_a_part_names_the_remedy(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    file = folder / "evaluation" / "feature_map.json"
    file.write_text(json.dumps({"identity": FEATURE_MAP["identity"]}))
    with pytest.raises(Exception, match="delete the file and run"):
        write_report(folder)
