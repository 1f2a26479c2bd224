"""Trackers get parameters, metrics, images, results and files; a failing one never ends a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.runs.tracking import trackers
from ltdd_ray.runs.tracking.tracker import IDS
from ltdd_ray.runs.tracking.trackers import Tracking, accuracies

MLFLOW = {"mlflow": {"uri": "http://127.0.0.1:1"}}


class Notebook:
    """A tracker that writes down what it gets; ``broken`` calls raise."""

    def __init__(self, own_id: str, broken: str = "") -> None:
        self.id, self.broken = own_id, broken
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: Any) -> None:
            if name == self.broken:
                raise ConnectionError("no answer from http://key:secret@host/\nmore")
            self.calls.append((name, arguments))

        return called

    def named(self, name: str) -> list[Any]:
        return [arguments for own, arguments in self.calls if own == name]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Notebook]:
    """The trackers that were opened, each under the id that was known, or a new one."""
    found: list[Notebook] = []

    def opener(config: object, folder: Path, known: str | None) -> Notebook:
        found.append(Notebook(known or "new"))
        return found[-1]

    monkeypatch.setattr(trackers, "open_mlflow", opener)
    return found


@pytest.fixture
def said() -> list[str]:
    return []


def tracking_of(tiny: Any, folder: Path, said: list[str], **sections: Any) -> Tracking:
    return Tracking(tiny(folder, tracking=sections or MLFLOW), folder, said.append)


def test_nothing_is_opened_without_a_tracker(tiny, tmp_path, opened, said) -> None:
    tracking = tracking_of(tiny, tmp_path, said, tensorboard=False)
    tracking.start()
    tracking.update(1, {"loss/total": 1.0})
    tracking.image("distilled", lambda: pytest.fail("no tracker wants an image"))
    tracking.end("finished")
    assert opened == [] and said == [] and not (tmp_path / IDS).exists()


def test_a_resumed_run_has_the_id_of_before_and_its_parameters_once(
    tiny, tmp_path, opened, said
) -> None:
    for _ in range(2):
        tracking = tracking_of(tiny, tmp_path, said)
        tracking.start()
        tracking.start()
        tracking.end("stopped")
    first, second = opened
    assert (first.id, second.id) == ("new", "new")
    assert json.loads((tmp_path / IDS).read_text()) == {"mlflow": "new"}
    ((settings,),) = first.named("parameters")
    assert settings["distill.ipc"] == "2" and not [key for key in settings if "tracking" in key]
    assert second.named("parameters") == []
    assert first.named("end") == [("stopped",)]


def test_every_update_arrives_once_and_before_what_follows(
    tiny, tmp_path, opened, said, monkeypatch
) -> None:
    monkeypatch.setattr(trackers, "SECONDS_BETWEEN_SENDS", 1e9)
    tracking = tracking_of(tiny, tmp_path, said)
    tracking.start()
    for update in range(1, 8):
        tracking.update(update, {"loss/total": 1 / update})
    tracking.stage_finished("distill", 3.0)
    (own,) = opened
    sent: dict[int, Mapping[str, float]] = {}
    for (part,) in own.named("metrics"):
        assert not sent.keys() & part.keys()
        sent |= part
    assert sent == {update: {"loss/total": 1 / update} for update in range(1, 8)}
    assert [name for name, _ in own.calls][-2:] == ["metrics", "results"]


def test_the_files_that_exist_are_sent_at_the_end(tiny, tmp_path, opened, said) -> None:
    (tmp_path / "distilled").mkdir()
    for name in ("results.json", "distilled/distilled.json", "other.txt"):
        (tmp_path / name).write_text("{}")
    tracking = tracking_of(tiny, tmp_path, said)
    tracking.start()
    tracking.end("finished")
    assert opened[0].named("file") == [
        (tmp_path / "results.json", ""),
        (tmp_path / "distilled" / "distilled.json", "distilled"),
    ]


def test_a_tracker_that_fails_is_dropped_with_a_sentence(tiny, tmp_path, opened, said) -> None:
    tracking = tracking_of(tiny, tmp_path, said)
    tracking.start()
    opened[0].broken = "results"
    tracking.stage_finished("experts", 1.0)
    tracking.stage_finished("distill", 1.0)
    tracking.end("finished")
    assert said == ["mlflow failed and gets nothing more of this run: no answer from http://host/"]
    assert opened[0].named("end") == []


def test_ids_that_are_none_are_told_before_work(tiny, tmp_path, opened, said) -> None:
    (tmp_path / IDS).write_text("[1]")
    with pytest.raises(UserError, match=r"tracking\.json: not the ids of runs at trackers; remove"):
        tracking_of(tiny, tmp_path, said).start()


def test_accuracies_by_set_and_group() -> None:
    one = {"accuracy": {"mean": 0.5}, "groups": {"many": {"mean": 0.6}, "few": {"mean": None}}}
    assert accuracies({"sets": {"distilled": one}}) == {
        "accuracy/distilled": 0.5,
        "accuracy/distilled/many": 0.6,
    }


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_missing_package_names_what_to_install(
    package, tiny, tmp_path, said, monkeypatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    monkeypatch.setitem(__import__("sys").modules, f"{package}.exceptions", None)
    sections = {"mlflow": MLFLOW["mlflow"], "wandb": {}}
    with pytest.raises(UserError, match=rf"pip install ltdd-ray\[{package}\]"):
        tracking_of(tiny, tmp_path, said, **{package: sections[package]}).start()
