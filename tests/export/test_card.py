"""The dataset card: its front matter parses, its numbers are right, and its loading code runs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.export.card import render_card, write_card
from ltdd_ray.export.export import export

Make = Callable[..., DistilledSet]
GROUPS = {"many": {"mean": 0.5}, "few": {"mean": 0.25}}
RESULTS: dict[str, Any] = {
    "name": "birds",
    "split": "test",
    "model": {"name": "convnet"},
    "sets": {
        "distilled": {
            "accuracy": {"mean": 0.4364, "std": 0.0051, "runs": [0.43, 0.44]},
            "accuracy_over_images": {"mean": 0.7, "std": 0.02, "runs": [0.69, 0.71]},
            "groups": GROUPS,
            "labels": "soft",
        },
        "random": {
            "accuracy": {"mean": 0.308, "std": 0.012, "runs": [0.3, 0.31]},
            "accuracy_over_images": {"mean": 0.6, "std": 0.01, "runs": [0.59, 0.61]},
            "groups": GROUPS,
            "labels": "hard",
        },
    },
    "robustness": {
        "ior": {"mean": 0.1284, "std": 0.0069, "runs": [0.13, 0.13]},
        "lrs": {"mean": 0.2417, "std": None, "runs": [0.2417]},
    },
}


@pytest.mark.parametrize("form", ["native", "imagefolder", "parquet", "npz"])
@pytest.mark.parametrize("results", [{}, RESULTS])
def test_front_matter_and_text(make_set: Make, form: str, results: dict[str, Any]) -> None:
    text = render_card(make_set(kind="zca"), results, form)
    _, front, body = text.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["license"] == "unknown" and "Unknown until you fill it in" in front
    assert fields["size_categories"] == ["n<1K"] and fields["task_categories"] == [
        "image-classification"
    ]
    assert ("configs" in fields) == (form == "parquet")
    prose = " ".join(body.split())
    assert "6 synthetic images of 9 x 8 pixels (colour), 2 for each of 3 classes" in prose
    assert "3,579 real images, 1,186 to 1,200 per class" in prose
    assert (
        "- seed: 3\n- versions: torch 2, numpy 3\n" in body
        and "cat (1,200), dog (1,193), owl (1,186)\n" in body
    )
    assert ("whitened" in body) == (form != "native")
    assert ("## Results" in body) == bool(results)
    assert not re.search(r"\n\n\n|[ \t]\n|\{[{%]", text)
    if results:
        table = [line for line in body.splitlines() if line.startswith("|")]
        assert table == [
            "| trained on | labels | all classes | many | few | over images |",
            "|---|---|---|---|---|---|",
            "| this set | soft | 43.6 ± 0.5 | 50.0 | 25.0 | 70.0 ± 2.0 |",
            "| as many real images, chosen at random | hard | 30.8 ± 1.2 | 50.0 | 25.0 "
            "| 60.0 ± 1.0 |",
        ]
        assert (
            "DD-Ranking in %: improvement over random (IOR) 12.8 ± 0.7, "
            "label-robust score (LRS) 24.2." in prose
        )
        assert "*All classes* is balanced accuracy, the mean over classes, and so are" in prose
        assert "*over images* is the share of all images." in prose


def test_the_card_names_classes_that_were_not_measured(make_set: Make) -> None:
    text = render_card(make_set(), {**RESULTS, "unmeasured_classes": ["owl"]}, "native")
    assert "Not measured, as they have no test images: owl." in text
    assert not re.search(r"\n\n\n|[ \t]\n|\{[{%]", text)


def test_a_single_network_has_no_deviation(make_set: Make) -> None:
    one = {
        "accuracy": {"mean": 0.4364, "std": None, "runs": [0.4364]},
        "groups": GROUPS,
        "labels": "soft",
    }
    text = render_card(
        make_set(), {**RESULTS, "sets": {"distilled": one}, "robustness": {}}, "native"
    )
    assert "| this set | soft | 43.6 | 50.0 | 25.0 |" in text and "±" not in text


def test_the_card_of_an_evaluated_run_has_its_results(make_set: Make, tmp_path: Path) -> None:
    file = make_set().save(tmp_path / "birds" / "distilled")
    card = write_card(file)
    assert card == file.with_name("README.md") and "## Results" not in card.read_text()
    (tmp_path / "birds" / "results.json").write_text(json.dumps(RESULTS))
    assert "# birds, distilled" in write_card(file).read_text()


@pytest.mark.parametrize("inside", ["birds", "birds/distilled"])
def test_a_run_may_be_exported_from_inside_its_folder(
    make_set: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    make_set().save(tmp_path / "birds" / "distilled")
    (tmp_path / "birds" / "results.json").write_text(json.dumps(RESULTS))
    monkeypatch.chdir(tmp_path / inside)
    assert "## Results" in (export(Path(), "npz", None).folder / "README.md").read_text()


@pytest.mark.parametrize("form", ["native", "imagefolder", "npz"])
def test_the_cards_loading_code_runs(
    make_set: Make, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distilled = make_set()
    file = distilled.save(tmp_path / "distilled")
    card = write_card(file) if form == "native" else export(file, form, None).folder / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    monkeypatch.chdir(card.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    if form == "imagefolder":
        labels = list(names["soft_labels"].values())
    else:
        labels = (
            names["distilled"].soft_labels if form == "native" else names["arrays"]["soft_labels"]
        )
    torch.testing.assert_close(
        torch.tensor(labels) if form != "native" else labels, distilled.soft_labels
    )
