"""Three runs with known results on one page, and the places that name them."""

import json
import re
from pathlib import Path

import pytest
from reportkit import CLASS_NAMES, Page, measured, results, write_run

from ltdd_ray.cli import main as cli
from ltdd_ray.common.errors import UserError
from ltdd_ray.report.comparison import write_comparison
from ltdd_ray.report.page import write_report
from ltdd_ray.workflows.report_runs import report_runs

CONFIG = (
    "name: {name}\noutput: runs\nmethod: {method}\n"
    "data: {{name: cifar10, imbalance_factor: 100.0}}\n"
    "distill: {{ipc: 10, lr_image: {rate}, budget: null}}\n"
    "experts: {{store: runs/{name}/experts}}\n"
)


def named(name: str, shift: float) -> dict:
    """Results whose leading set has every mean ``shift`` above the base."""
    leading = measured("LTDD", "distilled", "soft", shift)
    return results() | {
        "name": name,
        **leading,
        "sets": {"distilled": leading},
        "imbalance_factor": 100.0,
    }


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """`lab/low`, `lab/high` and `lab/dm`, which has no published number and distilled nothing."""
    made = []
    for name, method, shift, rate in (
        ("low", "datm", 0.05, 10),
        ("high", "ltdd", 0.15, 1000),
        ("dm", "dm", 0.1, 10),
    ):
        config = CONFIG.format(name=f"lab/{name}", method=method, rate=rate)
        made.append(write_run(tmp_path / "lab" / name, named(f"lab/{name}", shift), config))
    (made[2] / "distilled" / "distilled.safetensors").unlink()
    write_report(made[1])
    return made


def rendered(runs: list[Path]) -> Page:
    path = write_comparison(runs, runs[0].parent / "compare.html")
    return Page(path.read_text(encoding="utf-8"))


def said(page: Page) -> str:
    return " ".join(page.text.split())


def test_every_group_shows_every_run_with_its_deviation(runs):
    text = said(rendered(runs))
    assert (
        "3 runs on pictures high is most accurate on all classes (53.8 ± 1.0 %) "
        "and on the few-shot ones (35.0 ± 1.5 %)" in text
    )
    assert "Many-shot low 55.0 ± 1.5 high 65.0 ± 1.5 dm 60.0 ± 1.5" in text
    assert "Few-shot low 25.0 ± 1.5 high 35.0 ± 1.5 dm 30.0 ± 1.5" in text
    assert "Over images share of all images low 50.0 ± 2.0 high 60.0 ± 2.0 dm 55.0 ± 2.0" in text
    assert "Balanced test accuracy in % (mean over classes)" in text


def test_published_numbers_stand_beside_the_runs_that_have_one(runs):
    assert (
        "low 43.8 ± 1.0 published 37.3 high 53.8 ± 1.0 published 53.4 dm 48.8 ± 1.0 Many-shot"
        in said(rendered(runs))
    )


def test_classes_run_from_head_to_tail(runs):
    page = rendered(runs)
    text = said(page)
    rows = [
        f"{CLASS_NAMES[1]} 5,000 55.0 ± 2.0 65.0 ± 2.0 60.0 ± 2.0",
        f"{CLASS_NAMES[3]} 600 50.0 ± 2.0 60.0 ± 2.0 55.0 ± 2.0",
        f"{CLASS_NAMES[0]} 40 45.0 ± 2.0 55.0 ± 2.0 50.0 ± 2.0",
        f"{CLASS_NAMES[2]} 7 25.0 ± 2.0 35.0 ± 2.0 30.0 ± 2.0",
    ]
    assert " ".join(rows) in text
    assert [line["class"] for line in page.all("polyline")] == [
        "curve run-0",
        "curve run-1",
        "curve run-2",
    ]
    assert [band["class"] for band in page.all("polygon")] == [
        "band run-0",
        "band run-1",
        "band run-2",
    ]


def test_only_settings_that_differ_are_listed(runs):
    text = said(rendered(runs))
    assert (
        "Setting low high dm method datm ltdd dm distill .lr_image 10 1000 10 Time and memory"
        in text
    )


def test_equal_runs_have_no_settings_that_differ(runs):
    write_run(
        runs[0], named("lab/low", 0.05), CONFIG.format(name="lab/low", method="ltdd", rate=1000)
    )
    assert "None: the runs differ only in where they were written" in said(rendered(runs[:2]))


def test_cost_images_and_pages_of_every_run(runs):
    page = rendered(runs)
    text = said(page)
    cost = "1 h 2 min 1.5 GiB 1 min 35 s 512 MiB 0.0 s"
    assert f"Run Experts Distill Evaluate low {cost} high {cost} dm {cost}" in text
    assert "low 12 images high 12 images Runs" in text
    images = page.all("img")
    assert [image["alt"] for image in images[:4]] == [CLASS_NAMES[k] for k in (1, 3, 0, 2)]
    assert len(images) == 2 * 3 * 4 and all(
        (image["src"] or "").startswith("data:image/png") for image in images
    )
    links = [link["href"] or "" for link in page.all("a")]
    assert links[-1] == "high/report.html", "the one run that has a page"
    assert all(link.startswith("#") for link in links[:-1])


def test_runs_with_other_classes_are_compared_without_them(runs):
    other = named("lab/low", 0.05)
    other["class_names"] = list("abcd")
    (runs[0] / "results.json").write_text(json.dumps(other))
    page = rendered(runs)
    assert "classes" not in [section["id"] for section in page.all("section")]
    assert "Many-shot low 55.0" in said(page)


def test_one_class_with_test_images_has_no_chart_of_classes(runs):
    for folder in runs:
        found = json.loads((folder / "results.json").read_text())
        for one in (found, found["sets"]["distilled"]):
            for values in one["per_class"].values():
                values[1:] = [None] * 3
        (folder / "results.json").write_text(json.dumps(found))
    page = rendered(runs)
    assert "classes" not in [section["id"] for section in page.all("section")]
    assert "Many-shot low 55.0" in said(page)


@pytest.mark.parametrize("lost", ["groups", "kind", "images"])
def test_the_run_whose_files_do_not_fit_is_named(runs, lost):
    found = json.loads((runs[1] / "results.json").read_text())
    del found[lost]
    (runs[1] / "results.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"lab/high: results\.json lacks what is shown"):
        rendered(runs)


def test_runs_of_one_name_are_told_apart_by_their_folders(runs):
    write_run(
        runs[0], named("lab/high", 0.05), CONFIG.format(name="lab/high", method="ltdd", rate=1)
    )
    assert f"Many-shot {runs[0]} 55.0 ± 1.5 {runs[1]} 65.0" in said(rendered(runs[:2]))


def test_the_page_is_self_contained_and_names_are_text(runs):
    page = rendered(runs)
    assert not page.all("b") and not page.all("link")[1:]
    assert not re.search(
        r"https?://|@import|url\(", (runs[0].parent / "compare.html").read_text(encoding="utf-8")
    )


def test_one_place_is_a_page_several_or_their_folder_a_comparison(runs, capsys):
    lab = runs[0].parent
    assert cli.main(["report", str(runs[0])]) == 0
    assert capsys.readouterr().out == f"wrote {runs[0] / 'report.html'}\n"
    assert cli.main(["report", str(runs[0]), f"{runs[0]}/../low"]) == 0
    assert capsys.readouterr().out.endswith("/low/report.html\n"), (
        "one run, however often it is named"
    )
    assert cli.main(["report", *map(str, runs[:2])]) == 0
    assert capsys.readouterr().out.endswith(f"wrote {lab / 'compare.html'}\n")
    assert "2 runs on" in (lab / "compare.html").read_text()
    assert cli.main(["report", str(lab), "--output", str(lab / "all.html")]) == 0
    assert "3 runs on" in (lab / "all.html").read_text()


def test_a_config_stands_for_its_run(runs, tmp_path):
    config = tmp_path / "low.yaml"
    config.write_text(
        f"name: lab/low\noutput: {tmp_path}\ndata: {{source: digits}}\ndistill: {{ipc: 2}}\n"
    )
    assert report_runs([config], None) == runs[0] / "report.html"


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("none", "none: there is no such folder"),
        ("lab/high/report.html", "report.html: not the folder of a run and not a config file"),
        ("lab/low/distilled", "distilled: not the folder of a run, as it holds no config.yaml"),
        (
            "other.yaml",
            "other.yaml: the folder of its run, runs/other, does not exist; run `ltdd-ray run",
        ),
        ("broken.yaml", "unknown key `nmae`; did you mean `name`?"),
    ],
)
def test_other_places_are_named(runs, tmp_path, place, complaint):
    (tmp_path / "broken.yaml").write_text("nmae: x")
    (tmp_path / "other.yaml").write_text("name: other\ndata: {source: digits}\ndistill: {ipc: 2}\n")
    with pytest.raises(UserError, match=re.escape(complaint)):
        report_runs([runs[0], tmp_path / place], None)
    assert not (runs[0].parent / "compare.html").exists()


def test_an_empty_list_of_runs_is_refused() -> None:
    with pytest.raises(UserError, match="the list of runs is empty"):
        report_runs([], None)


def test_soft_and_hard_labels_scores_and_bytes_have_columns(runs, tmp_path):
    """The scores come from the whole comparison, as a run lacks the sets of the others."""
    first = json.loads((runs[0] / "results.json").read_text())
    first["sets"]["distilled_hard"] = measured("LTDD, hard labels", "distilled", "hard", -0.05)
    first["bytes"] = 9000
    (runs[0] / "results.json").write_text(json.dumps(first))
    assert "Label-robust score" not in said(rendered(runs))
    scores = [{"lrs": {"mean": 0.242, "std": 0.01}}, {}, {}]
    page = Page(write_comparison(runs, tmp_path / "page.html", scores).read_text(encoding="utf-8"))
    text = said(page)
    assert "Soft labels Hard labels Label-robust score (LRS) kB with labels % per kB" in text
    # Balanced accuracy 38.75 + 5 and 38.75 - 5; 43.75 points on 9 kB.
    assert "43.8 ± 1.0 33.8 ± 1.0 24.2 ± 1.0 9.0 4.86 convnet" in text
