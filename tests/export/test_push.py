"""Publishing on the Hub: the files, the card, and what the Hub is asked for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.hf_api
import pytest
import yaml

from ltdd_ray.cli import main as cli
from ltdd_ray.common.errors import UserError
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.export.push import push

Make = Callable[..., DistilledSet]
FILES = {
    *("README.md", "training.json", "data/train-00000-of-00001.parquet"),
    *("distilled.safetensors", "distilled.json"),
}
ONE = {"accuracy": {"mean": 0.436, "std": None, "runs": [0.436]}, "groups": {}, "labels": "soft"}
RESULTS = {
    **{"name": "birds", "split": "test", "model": {"name": "convnet"}},
    "sets": {"distilled": ONE},
}


class Hub:
    """A Hub that writes down its calls; ``error`` is raised by the upload."""

    endpoint = "https://hub.test"

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.calls = error, []

    def create_repo(self, repository: str, **settings: Any) -> None:
        self.calls.append((repository, settings))

    def upload_folder(self, **settings: Any) -> None:
        if self.error:
            raise self.error
        names = {
            str(file.relative_to(settings["folder_path"]))
            for file in settings["folder_path"].rglob("*")
            if file.is_file()
        }
        self.calls.append((settings["repo_id"], settings["repo_type"], names))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    own = Hub()
    monkeypatch.setattr(huggingface_hub.hf_api, "HfApi", lambda: own)
    return own


@pytest.fixture
def file(make_set: Make, tmp_path: Path) -> Path:
    return make_set().save(tmp_path / "distilled")


def front_matter(card: Path) -> dict[str, Any]:
    return yaml.safe_load(card.read_text().split("---")[1])


def test_without_send_the_files_are_written_and_nothing_is_sent(file: Path, hub: Hub) -> None:
    pushed = push(file, "lab/birds", "cc-by-4.0", False, False)
    names = {str(f.relative_to(pushed.folder)) for f in pushed.folder.rglob("*") if f.is_file()}
    assert names == FILES and hub.calls == []
    assert pushed.sentences()[-1].startswith("nothing was sent; look at")
    card = front_matter(pushed.folder / "README.md")
    assert card["license"] == "cc-by-4.0"
    info, distilled = (
        card["dataset_info"],
        DistilledSet.load(pushed.folder / "distilled.safetensors"),
    )
    assert info["splits"] == [{"name": "train", "num_examples": len(distilled)}]
    assert [column["name"] for column in info["features"]] == ["image", "label", "soft_label"]
    names_of_classes = info["features"][1]["dtype"]["class_label"]["names"]
    assert tuple(names_of_classes.values()) == distilled.class_names


def test_a_card_that_was_completed_is_sent(file: Path, hub: Hub) -> None:
    card = push(file, "lab/birds", "mit", True, False).folder / "README.md"
    card.write_text(card.read_text() + "\nBy the lab.\n")
    pushed = push(file, "lab/birds", "mit", True, True)
    assert pushed.sentences()[-1] == "sent to https://hub.test/datasets/lab/birds"
    assert card.read_text().endswith("By the lab.\n")
    created, (repository, kind, names) = hub.calls
    assert created == (
        "lab/birds",
        {"repo_type": "dataset", "private": True, "exist_ok": True},
    )
    assert (repository, kind, names) == ("lab/birds", "dataset", FILES)


def test_the_card_of_an_earlier_push_becomes_current(file: Path, hub: Hub) -> None:
    """Another licence, then newer results, then a card that somebody removed."""
    card = push(file, "lab/birds", "mit", False, False).folder / "README.md"
    push(file, "lab/birds", "cc-by-4.0", False, True)
    assert front_matter(card)["license"] == "cc-by-4.0" and "## Results" not in card.read_text()
    (file.parent.parent / "results.json").write_text(json.dumps(RESULTS))
    push(file, "lab/birds", "cc-by-4.0", False, True)
    assert "| this set | soft | 43.6 |" in card.read_text()
    card.unlink()
    push(file, "lab/birds", "cc-by-4.0", False, True)
    assert "| this set | soft | 43.6 |" in card.read_text()


def test_an_outdated_card_that_somebody_edited_is_neither_sent_nor_lost(
    file: Path, hub: Hub
) -> None:
    card = push(file, "lab/birds", "mit", False, False).folder / "README.md"
    card.write_text(card.read_text() + "\nBy the lab.\n")
    with pytest.raises(UserError, match=r"README.md: was edited, .*move it away, push again"):
        push(file, "lab/birds", "cc-by-4.0", False, True)
    assert hub.calls == [] and card.read_text().endswith("By the lab.\n")
    assert front_matter(card)["license"] == "mit"
    card.rename(file.with_name("mine.md"))
    push(file, "lab/birds", "cc-by-4.0", False, True)
    assert front_matter(card)["license"] == "cc-by-4.0" and hub.calls


def test_a_set_without_the_file_for_people_is_pushed(file: Path, hub: Hub) -> None:
    file.with_suffix(".json").unlink()
    push(file, "lab/birds", "mit", False, True)
    assert hub.calls[-1][-1] == FILES - {"distilled.json"}


def test_a_push_that_fails_leaves_nothing(
    file: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(file.parent.iterdir())
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"hub: not writable: No space left .*push again"):
        push(file, "lab/birds", "mit", False, True)
    assert sorted(file.parent.iterdir()) == before


def test_the_files_of_another_set_are_not_sent(file: Path, hub: Hub, make_set: Make) -> None:
    push(file, "lab/birds", "mit", False, False)
    shutil.rmtree(file.parent / "hub" / "data")
    make_set(class_names=("a", "b", "c", "d")).save(file.parent)
    with pytest.raises(UserError, match="hub: holds the files of another set; remove it"):
        push(file, "lab/birds", "mit", False, True)
    assert hub.calls == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("birds", "give OWNER/NAME, such as YOU/birds"), ("lab/a b", "is no name of a dataset")],
)
def test_a_name_that_the_hub_refuses(name: str, sentence: str, file: Path, hub: Hub) -> None:
    with pytest.raises(UserError, match=sentence):
        push(file, name, "mit", False, True)
    assert not (file.parent / "hub").exists()


def test_a_hub_that_takes_nothing_is_one_sentence(file: Path, hub: Hub) -> None:
    hub.error = ConnectionError("no route to host\nmore")
    with pytest.raises(UserError, match=r"took nothing: no route to host; .* `hf auth login`"):
        push(file, "lab/birds", "mit", False, True)


def test_the_command(file: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["push", str(file), "lab/birds", "--license", "mit", "--send"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("sent to https://hub.test/")
    assert len(hub.calls) == 2
