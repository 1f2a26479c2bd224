"""What a reader of the page takes along: the set, a table of the classes, the config."""

import base64
import csv
import io
import json
import os
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from reportkit import CLASS_COUNTS, CLASS_NAMES, Page, results, write_run

from ltdd_ray.cli.parser import build_parser
from ltdd_ray.report.page import write_report


def links(page: Path) -> dict[str, str]:
    """{name of the file: address} of the links that download something."""
    tags = Page(page.read_text(encoding="utf-8")).all("a")
    return {tag["download"] or "": tag["href"] or "" for tag in tags if "download" in tag}


def content(address: str) -> str:
    kind, _, data = address.partition(";charset=utf-8;base64,")
    assert kind in ("data:text/csv", "data:application/yaml")
    return base64.b64decode(data).decode()


def test_the_page_holds_the_table_of_classes_and_the_config(tmp_path: Path) -> None:
    found = links(write_report(write_run(tmp_path, results() | {"name": "a/b"})))
    assert list(found) == ["distilled.safetensors", "a-b-classes.csv", "config.yaml"]
    assert content(found["config.yaml"]) == (tmp_path / "config.yaml").read_text()
    rows = list(csv.DictReader(io.StringIO(content(found["a-b-classes.csv"]))))
    assert [row["class"] for row in rows] == list(CLASS_NAMES)
    assert [int(row["training_images"]) for row in rows] == CLASS_COUNTS
    assert [row["group"] for row in rows] == ["medium", "many", "few", "medium"]
    assert [float(row["distilled"]) for row in rows] == pytest.approx([0.55, 0.65, 0.35, 0.6])
    assert [float(row["random_std"]) for row in rows] == [0.02] * 4


def test_a_class_that_was_not_measured_is_empty_in_the_table(tmp_path: Path) -> None:
    values = results()
    for one in (values, *values["sets"].values(), *values["cross_architecture"].values()):
        one["per_class"] = {"mean": [None, 0.5, 0.2, 0.4], "std": [None, 0.1, 0.1, 0.1]}
    table = content(links(write_report(write_run(tmp_path, values)))["trial-classes.csv"])
    row, *_ = csv.DictReader(io.StringIO(table))
    assert (row["distilled"], row["distilled_std"]) == ("", "")


@pytest.mark.parametrize("page", ["report.html", "elsewhere/page.html", "../page.html"])
def test_the_link_to_the_set_leads_there_from_any_page(tmp_path: Path, page: str) -> None:
    run = write_run(tmp_path / "runs" / "trial #1")
    file = run / page
    file.parent.mkdir(exist_ok=True)
    address = unquote(urlsplit(links(write_report(run, file))["distilled.safetensors"]).path)
    assert not os.path.isabs(address)  # noqa: PTH117
    assert (file.parent / address).resolve() == run / "distilled" / "distilled.safetensors"


def test_commands_fit_the_files_that_are_there(tmp_path: Path) -> None:
    run = write_run(tmp_path / "my runs" / "trial")
    text = Page(write_report(run).read_text()).text
    written = next(line for line in text.splitlines() if "ltdd-ray export" in line)
    _, *words = shlex.split(written)
    assert build_parser().parse_args(words).place == run
    assert "tensorboard --logdir" not in text
    (run / "tensorboard").mkdir()
    text = Page(write_report(run).read_text()).text
    assert f"tensorboard --logdir '{run / 'tensorboard'}'" in text


def test_results_alone_offer_the_table_alone(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results("distilled")))
    page = write_report(tmp_path)
    assert list(links(page)) == ["trial-classes.csv"]
    assert "ltdd-ray export" not in page.read_text()
