import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ltdd_ray.bench import evaluate
from ltdd_ray.bench.questions import disagreements, results_table
from ltdd_ray.bench.result import Result, to_json
from ltdd_ray.cli import main as cli

FASTER = Result.of("faster", [3.0, 1.0, 2.5], target=2.0, better="higher")
LARGER = Result.of("larger", [1.2], target=1.15, better="lower")


def test_a_result_is_median_range_and_verdict() -> None:
    assert (FASTER.ratio, FASTER.low, FASTER.high) == (2.5, 1.0, 3.0)
    assert FASTER.met
    assert not LARGER.met


def test_results_survive_json() -> None:
    content = json.loads(json.dumps(to_json([FASTER, LARGER])))
    assert [Result(**entry) for entry in content["results"]] == [FASTER, LARGER]
    assert set(content) == {"machine", "results"}
    assert {"cpu", "cores", "torch", "threads"} <= set(content["machine"])


def test_the_table_says_which_targets_were_missed() -> None:
    columns = [list(column.cells) for column in results_table("matching", [FASTER, LARGER]).columns]
    assert columns[0] == ["faster", "larger"]
    assert columns[3] == [">= 2", "<= 1.15"]
    assert columns[4] == ["met", "missed"]


def test_bench_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "measure", lambda repeats: [LARGER] * repeats)
    file = tmp_path / "found.json"
    assert cli.main(["bench", "evaluate", "--json", str(file), "--repeats", "2"]) == 0
    assert "missed" in capsys.readouterr().out
    assert [entry["name"] for entry in json.loads(file.read_text())["results"]] == [
        "larger",
        "larger",
    ]


def test_rounds_that_disagree_are_named() -> None:
    calm = Result.of("calm", [2.0, 2.2, 2.5], target=2.0, better="higher")  # 0.5 / 2.2 = 23 %
    busy = Result.of("busy", [2.0, 2.2, 2.6], target=2.0, better="higher")  # 0.6 / 2.2 = 27 %
    once = Result.of("once", [3.0], target=2.0, better="higher")
    (warning,) = disagreements([calm, busy, once])
    assert warning.startswith("warning: busy: its rounds disagree, 2 to 2.6 is more than 25%")


def test_bench_warns_below_its_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "measure", lambda repeats: [FASTER, LARGER])
    assert cli.main(["bench", "evaluate"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("warning: faster: ") and last.endswith("with more --repeats")


@pytest.mark.parametrize(
    "arguments", [["--repeats", "0"], ["--json", "missing/found.json"], ["--json", "."]]
)
def test_bad_arguments_are_refused_before_anything_is_measured(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "measure", lambda repeats: pytest.fail("measured"))
    assert cli.main(["bench", "evaluate", *arguments]) == 1
    assert f"error: {arguments[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("question", ["matching", "experts", "evaluate", "store"])
def test_help_answers_for_every_question(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["bench", "--help"], ["bench", question, "--help"]):
        with pytest.raises(SystemExit) as exit:
            cli.main(arguments)
        assert exit.value.code == 0
        assert question in capsys.readouterr().out


def lines_of(results: list[Result], width: int) -> list[str]:
    console = Console(width=width, record=True, file=StringIO())
    console.print(results_table("matching", results))
    return [line.rstrip() for line in console.export_text().splitlines()]


LONGEST = "representation_first_order_vs_published"


def test_a_row_fits_into_80_columns() -> None:
    lines = lines_of([Result(LONGEST, 4.03, 3.48, 4.27, 2.0, "higher")], 80)
    assert f"{LONGEST}  4.03   3.48 to 4.27  >= 2    met" in lines


@pytest.mark.parametrize("width", [80, 60])
def test_names_are_never_cut(width: int) -> None:
    lines = lines_of([Result(LONGEST, 0.000994, 0.000953, 0.00121, 0.0115, "lower")], width)
    assert any(line.startswith(f"{LONGEST} ") for line in lines)
    assert "…" not in "".join(lines)
