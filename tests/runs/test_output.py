import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ltdd_ray.runs.output import JsonOutput, Output, TextOutput

MEASURED: dict[str, Any] = {
    "title": "LTDD",
    "labels": "soft",
    "accuracy": {"mean": 0.436, "std": 0.005, "runs": [0.43, 0.44]},
    "accuracy_over_images": {"mean": 0.71, "std": 0.01, "runs": [0.7, 0.72]},
    "groups": {"many": {"mean": 0.5, "std": 0.0}},
}
RESULTS: dict[str, Any] = {
    "name": "owls",
    "split": "test",
    "ipc": 5,
    "pictures_per_image": 1,
    **MEASURED,
    "sets": {"distilled": MEASURED},
    "cross_architecture": {"resnet18-batch": MEASURED},
}


def tell(output: Output) -> None:
    """All that a run can say, once."""
    output.stage("experts", "already finished", "runs/owls/experts")
    output.say("distill", "class owl: 1 of 5 initial images are predicted correctly")
    with output.progress("distill", 200, "updates") as progress:
        progress.update("a", 3, "loss 0.5")
        progress.update("b", 4, "loss 0.4")
    output.stage("distill", "finished", "runs/owls/distilled", 12.345)
    output.results(RESULTS, "runs/owls/results.json")


def test_programs_get_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell(JsonOutput())
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == [
        "stage",
        "note",
        "progress",
        "progress",
        "stage",
        "results",
    ]
    assert events[0]["state"] == "already finished" and events[0]["seconds"] is None
    progress = {
        "event": "progress",
        "stage": "distill",
        "done": 7,
        "total": 200,
        "unit": "updates",
        "note": "loss 0.4",
    }
    assert events[3] == progress
    assert (events[4]["artifact"], events[4]["seconds"]) == ("runs/owls/distilled", 12.35)
    assert events[-1] == {
        "event": "results",
        "path": "runs/owls/results.json",
        "accuracy": RESULTS["accuracy"],
        "accuracy_over_images": RESULTS["accuracy_over_images"],
    }


def test_people_get_sentences_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    tell(TextOutput())
    said = capsys.readouterr().out
    assert said.startswith(
        "experts: already finished, runs/owls/experts\ndistill: class owl: 1 of 5"
    )
    assert "distill: finished in 12 s, runs/owls/distilled\n" in said and "43.6 ± 0.5" in said
    assert "owls: balanced accuracy in %" in said and "71.0 ± 1.0" in said
    assert "resnet18-batch" in said


def test_quiet_says_nothing_even_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert Console().is_terminal
    tell(TextOutput(quiet=True))
    assert capsys.readouterr() == ("", "")


def test_the_command_line_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    from ltdd_ray.cli import main as cli
    from ltdd_ray.workflows import pipeline

    chosen: list[Output] = []
    monkeypatch.setattr(pipeline, "run", lambda config, stages, output: chosen.append(output))
    demo = str(Path(__file__).parents[2] / "configs" / "demo.yaml")
    for flags in ([], ["--quiet"], ["--json"]):
        assert cli.main(["evaluate", demo, *flags]) == 0
    assert [type(output) for output in chosen] == [TextOutput, TextOutput, JsonOutput]
    with pytest.raises(SystemExit):
        cli.main(["run", demo, "--quiet", "--json"])
