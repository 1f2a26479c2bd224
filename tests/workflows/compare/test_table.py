"""The table of three methods with known results and costs."""

import copy
import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import load_config
from ltdd_ray.evaluate.robustness import label_robust_score
from ltdd_ray.methods import METHODS
from ltdd_ray.methods.published import published_accuracy
from ltdd_ray.workflows.compare.plan import plan_comparison
from ltdd_ray.workflows.compare.table import (
    Row,
    as_csv,
    as_json,
    as_markdown,
    as_text,
    experts_rows,
    method_rows,
)

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def base(tiny: Callable[..., RunConfig], tmp_path: Path) -> RunConfig:
    data = {"source": "parquet", "path": "somewhere", "name": "cifar10", "imbalance_factor": 100}
    return tiny(
        tmp_path,
        data=data,
        distill={"ipc": 10, "updates": 12, "representation": {"start_epochs": {"max": 3}}},
    )


def published_of(config: RunConfig) -> float | None:
    dataset, factor = config.data.name or config.data.source, config.data.imbalance_factor
    return published_accuracy(dataset, factor, config.method, config.distill.ipc)


def results(mean: float, timings: dict[str, float], peaks: dict[str, int]) -> dict[str, Any]:
    groups = {
        name: {"mean": mean + shift, "std": 0.01}
        for name, shift in (("many", 0.1), ("medium", 0.0), ("few", -0.1))
    }
    facts = {
        "labels": "hard" if mean == 0.308 else "soft",
        "timings": timings,
        "peak_memory": peaks,
    }
    over_images = {"mean": mean + 0.2, "std": 0.01}
    name = "random" if facts["labels"] == "hard" else "distilled"
    runs = [mean - 0.01, mean + 0.01]
    own = {"accuracy": {"mean": mean, "std": 0.012, "runs": runs}, "labels": facts["labels"]}
    return {
        **own,
        "set": name,
        "sets": {name: own},
        "pictures_per_image": 1,
        "bytes": 4000,
        "accuracy_over_images": over_images,
        "groups": groups,
        **facts,
    }


@pytest.fixture
def rows(base: RunConfig) -> list[Row]:
    configs = plan_comparison(base, ["random", "datm", "ltdd"])
    found = {
        "random": results(0.308, {"evaluate": 67.0}, {"evaluate": 600 * 2**20}),
        "datm": results(
            0.341,
            {"experts": 493.2, "distill": 200.0, "evaluate": 66.0},
            {"experts": 2**30, "distill": 700 * 2**20},
        ),
        "ltdd": results(
            0.436, {"distill": 310.0, "evaluate": 66.4}, {"distill": 800 * 2**20, "evaluate": 5}
        ),
    }
    pair = list(configs.values()), list(found.values())
    return method_rows(*pair) + experts_rows(*pair)


def test_a_row_holds_the_measured_and_the_published_accuracy(rows: list[Row]) -> None:
    assert rows[1] == Row(
        method="datm",
        accuracy=0.341,
        std=0.012,
        many=pytest.approx(0.441),
        medium=0.341,
        few=pytest.approx(0.241),
        accuracy_over_images=pytest.approx(0.541),
        labels="soft",
        soft_accuracy=0.341,
        set_bytes=4000,
        distill_seconds=200.0,
        evaluate_seconds=66.0,
        peak_memory=700 * 2**20,
        published=pytest.approx(0.373),
    )


def test_a_single_network_has_no_deviation(base: RunConfig) -> None:
    (config,) = plan_comparison(base, ["random"]).values()
    found = results(0.308, {"evaluate": 67.0}, {"evaluate": 5})
    found["accuracy"]["std"] = None
    rows = method_rows([config], [found])
    one = base.evaluate.model_copy(update={"networks": 1})
    text = as_markdown(base.model_copy(update={"evaluate": one}), rows)
    assert "| random | 30.8 | 40.8 |" in text and "1 network (convnet" in text
    (row,) = csv.DictReader(io.StringIO(as_csv(rows)))
    assert (row["accuracy"], row["std"]) == ("0.308", "")


def test_shared_experts_are_counted_once(rows: list[Row]) -> None:
    assert rows[3:] == [Row("experts of datm, ltdd", experts_seconds=493.2, peak_memory=2**30)]


def test_experts_trained_elsewhere_have_no_time(base: RunConfig) -> None:
    configs = list(plan_comparison(base, ["random", "k_center"]).values())
    found = [results(0.3, {"evaluate": 6.0}, {"evaluate": 5})] * 2
    assert experts_rows(configs, found) == [Row("experts of k_center")]
    assert experts_rows(configs[:1], found[:1]) == []


def test_markdown_is_in_percent(base: RunConfig, rows: list[Row]) -> None:
    lines = as_markdown(base, rows).splitlines()
    assert lines[0] == (
        "# tiny: cifar10, imbalance factor 100, 10 images per class; "
        "balanced accuracy in % on its test images, 2 networks (convnet of width 4)"
    )
    assert lines[2:8] == [
        "| method | all | many | medium | few | over images | soft labels | hard labels "
        "| LRS | ARS | kB | % per kB | experts s | distill s | evaluate s | peak MiB "
        "| published |",
        f"| --- |{' ---: |' * 16}",
        "| random | 30.8 ± 1.2 | 40.8 | 30.8 | 20.8 | 50.8 |  | 30.8 |  |  | 4.0 | 7.7 |  |  "
        "| 67 | 600 | 34.4 |",
        "| datm | 34.1 ± 1.2 | 44.1 | 34.1 | 24.1 | 54.1 | 34.1 |  |  |  | 4.0 | 8.53 |  "
        "| 200 | 66 | 700 | 37.3 |",
        "| ltdd | 43.6 ± 1.2 | 53.6 | 43.6 | 33.6 | 63.6 | 43.6 |  |  |  | 4.0 | 10.9 |  "
        "| 310 | 66 | 800 | 53.4 |",
        "| experts of datm, ltdd |  |  |  |  |  |  |  |  |  |  |  | 493 |  |  | 1024 |  |",
    ]
    assert "CVPR 2025" in lines[-1]


def test_hard_labels_and_scores_need_their_sets(base: RunConfig) -> None:
    """DM's labels are hard, so its baseline are random images with hard labels."""
    configs = plan_comparison(base, ["ltdd", "dm", "random", "random_soft", "full_ce"])
    ltdd, random = results(0.45, {}, {"evaluate": 5}), results(0.308, {}, {"evaluate": 5})
    ltdd["sets"]["distilled_hard"] = results(0.40, {}, {"evaluate": 5})["sets"]["distilled"]
    dm, soft, full = (copy.deepcopy(random) for _ in range(3))
    for one, name, mean in (
        (dm, "distilled", 0.33),
        (soft, "random_soft", 0.40),
        (full, "full_ce", 0.58),
    ):
        one["set"], one["sets"] = name, {name: dict(one["sets"]["random"])}
        one["sets"][name]["accuracy"] = {"mean": mean, "runs": [mean - 0.01, mean + 0.01]}
    rows = method_rows(list(configs.values()), [ltdd, dm, random, soft, full])
    assert (rows[0].soft_accuracy, rows[0].hard_accuracy) == (0.45, 0.40)
    assert (rows[1].soft_accuracy, rows[1].hard_accuracy) == (None, 0.33)
    scores = [label_robust_score(0.58 - 0.40, 0.45 - 0.40), label_robust_score(0.25, 0.022)]
    assert [row.label_robust for row in rows[:2]] == pytest.approx(scores)
    assert [row.label_robust for row in rows[2:]] == [None] * 3
    cells = as_markdown(base, rows).splitlines()[4].split(" | ")
    assert cells[6:10] == ["45.0", "40.0", f"{100 * scores[0]:.1f}", ""]


def test_csv_and_json_hold_shares(base: RunConfig, rows: list[Row]) -> None:
    first, *_, last = csv.DictReader(io.StringIO(as_csv(rows)))
    assert (first["method"], first["accuracy"], first["distill_seconds"], first["published"]) == (
        "random",
        "0.308",
        "",
        "0.344",
    )
    assert (last["method"], last["experts_seconds"]) == ("experts of datm, ltdd", "493.2")
    tree = as_json(base, rows)
    assert (tree["dataset"], tree["imbalance_factor"], tree["ipc"], tree["networks"]) == (
        "cifar10",
        100,
        10,
        2,
    )
    assert (
        tree["rows"][2]["few"] == pytest.approx(0.336)
        and tree["rows"][0]["distill_seconds"] is None
    )


def test_the_terminal_shows_the_same_cells_but_no_empty_columns(
    base: RunConfig, rows: list[Row]
) -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(as_text(base, rows))
    assert "43.6 ± 1.2" in captured.get() and "experts of datm, ltdd" in captured.get()
    assert "LRS" not in captured.get()  # no row has this score
    shown = " ".join(captured.get().split())
    for row in as_markdown(base, rows).splitlines()[4:-2]:
        assert all(cell.strip() in shown for cell in row.split("|"))


def test_the_terminal_needs_80_columns_and_no_row_is_empty(
    base: RunConfig, rows: list[Row]
) -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(as_text(base, [*rows, replace(rows[0], label_robust=0.1, set_bytes=10**7)]))
    assert "…" not in captured.get()  # no number is cut
    lines = [line.split() for line in captured.get().splitlines()]
    assert next(line for line in lines if "43.6" in line)[1:4] == ["43.6", "±", "1.2"]
    experts = [line for line in lines if "experts" in line and "datm," in line]
    assert len(experts) == 1  # in the table of costs alone


@pytest.mark.parametrize(
    ("method", "changes", "published"),
    [
        ("ltdd", {}, 0.534),
        ("full_ce", {}, 0.662),
        ("ed", {}, None),
        ("ed", {"ipc": 50}, 0.548),
        ("mtt", {"imbalance_factor": 200.0}, None),
        ("ltdd", {"imbalance_factor": None}, None),
        ("ltdd", {"name": None}, None),
        ("ltdd", {"name": "tiny_imagenet", "imbalance_factor": 20, "ipc": 20}, 0.255),
    ],
)
def test_published_numbers_belong_to_one_cell(
    base: RunConfig, method: str, changes: dict[str, Any], published: float | None
) -> None:
    distill = base.distill.model_copy(update={"ipc": changes.pop("ipc", 10)})
    data = base.data.model_copy(update=changes)
    config = base.model_copy(update={"method": method, "distill": distill, "data": data})
    assert published_of(config) == (None if published is None else pytest.approx(published))


CELLS = sorted(CONFIGS.rglob("if*_ipc*.yaml"))


@pytest.mark.parametrize("file", CELLS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_table_and_the_configs_name_the_same_published_numbers(file: Path) -> None:
    """The headers of the configs were written from the paper independently of published.yaml."""
    (expected,) = re.findall(r"^# Expected: .*", file.read_text(), re.MULTILINE)
    config, compared = load_config(file), 0
    if "not published" in expected:
        assert published_of(config.model_copy(update={"method": "ltdd"})) is None
        return
    for method, name in {"ltdd": "published", "datm": "DATM", "random": "random selection"}.items():
        for percent in re.findall(rf"{name} ([0-9.]+) %", expected):
            found = published_of(config.model_copy(update={"method": method}))
            assert found == pytest.approx(float(percent) / 100)
            compared += 1
    assert compared >= 1


def test_most_published_methods_can_be_run_here(base: RunConfig) -> None:
    found = {m for m in METHODS if published_of(base.model_copy(update={"method": m}))}
    assert {"random", "k_center", "graph_cut", "mtt", "datm", "ltdd", "full_ce"} <= found
