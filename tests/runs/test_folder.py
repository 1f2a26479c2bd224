import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig, result_fingerprint
from ltdd_ray.config.loading import load_config
from ltdd_ray.runs.folder import RunFolder

Tiny = Callable[..., RunConfig]


def test_a_new_folder_records_what_made_it(tmp_path: Path, tiny: Tiny) -> None:
    config = tiny(tmp_path)
    folder = RunFolder.open(config)
    assert load_config(folder.path / "config.yaml") == config
    information = json.loads((tmp_path / "tiny" / "run.json").read_text())
    assert information["config_hash"] == result_fingerprint(config) and information["seed"] == 3
    assert {"ltdd-ray", "torch", "ray", "python"} <= set(information["versions"])
    assert information["hardware"]["cores"] >= 1 and information["hardware"]["memory"] > 2**28


def test_stage_records_survive_coming_back(tmp_path: Path, tiny: Tiny) -> None:
    RunFolder.open(tiny(tmp_path)).record_stage("experts", 1.234, 10)
    folder = RunFolder.open(tiny(tmp_path))
    folder.record_stage("distill", 2, 20)
    information = folder.information()
    assert information["timings"] == {"experts": 1.23, "distill": 2}
    assert information["peak_memory"] == {"experts": 10, "distill": 20}
    assert set(information["finished"]) == {"experts", "distill"}


def test_how_widely_a_run_is_spread_may_change(tmp_path: Path, tiny: Tiny) -> None:
    RunFolder.open(tiny(tmp_path))
    config = tiny(tmp_path, compute={"num_actors": 7})
    RunFolder.open(config)
    assert load_config(tmp_path / "tiny" / "config.yaml") == config


def test_sets_and_networks_may_be_added(tmp_path: Path, tiny: Tiny) -> None:
    RunFolder.open(tiny(tmp_path))
    more = {"epochs": 4, "networks": 5, "sets": ["distilled", "distilled_8bit"]}
    RunFolder.open(tiny(tmp_path, evaluate=more))
    with pytest.raises(UserError, match=r"another config: evaluate\.epochs \("):
        RunFolder.open(tiny(tmp_path, evaluate={"epochs": 9}))


def test_a_folder_of_another_config_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    RunFolder.open(tiny(tmp_path))
    before = (tmp_path / "tiny" / "config.yaml").read_bytes()
    with pytest.raises(
        UserError,
        match=r"another config: seed \(3 there, 4 here\); choose another name with --set name=",
    ):
        RunFolder.open(tiny(tmp_path, seed=4))
    assert (tmp_path / "tiny" / "config.yaml").read_bytes() == before


def test_only_the_first_differences_are_named(tmp_path: Path, tiny: Tiny) -> None:
    RunFolder.open(tiny(tmp_path))
    with pytest.raises(
        UserError, match=r"seed .*, model\.width \(4 there, 5 here\), model\.depth .* and 1 more;"
    ):
        RunFolder.open(tiny(tmp_path, seed=4, model={"width": 5, "depth": 1, "norm": "none"}))


def test_a_folder_with_other_files_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"files that are not of a run, such as thesis\.tex"):
        RunFolder.open(tiny(tmp_path))
    assert [entry.name for entry in (tmp_path / "tiny").iterdir()] == ["thesis.tex"]


def test_what_a_killed_start_left_is_taken_over(tmp_path: Path, tiny: Tiny) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / ".config.yaml.tmp").write_text("na")
    RunFolder.open(tiny(tmp_path))


def test_an_unwritable_output_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match="not writable: Not a directory; choose another place with --set output="
    ):
        RunFolder.open(tiny(tmp_path / "file"))


def test_a_broken_config_of_the_folder_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    RunFolder.open(tiny(tmp_path))
    (tmp_path / "tiny" / "config.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="not readable as a config"):
        RunFolder.open(tiny(tmp_path))


def test_a_folder_is_removed_only_while_it_holds_no_work(tmp_path: Path, tiny: Tiny) -> None:
    folder = RunFolder.open(tiny(tmp_path))
    (folder.path / "experts").mkdir()
    (folder.path / "heartbeat.json").touch()  # of a process that was killed
    folder.remove_if_unused()
    assert not folder.path.exists()
    folder = RunFolder.open(tiny(tmp_path))
    (folder.path / "experts").mkdir()
    (folder.path / "experts" / "expert-0000.arrow").touch()
    folder.remove_if_unused()
    assert (folder.path / "experts" / "expert-0000.arrow").exists()


@pytest.mark.parametrize("content", ["{", "", "[1]", "null"])
def test_a_cut_run_json_is_written_anew(tmp_path: Path, tiny: Tiny, content: str) -> None:
    folder = RunFolder.open(tiny(tmp_path))
    (folder.path / "run.json").write_text(content)
    assert RunFolder.open(tiny(tmp_path)).information()["seed"] == 3


@pytest.mark.parametrize("content", ['{"timings": 5}', '{"timings": [1], "finished": null}'])
def test_a_stage_is_recorded_over_altered_values(tmp_path: Path, tiny: Tiny, content: str) -> None:
    folder = RunFolder.open(tiny(tmp_path))
    (folder.path / "run.json").write_text(content)
    folder.record_stage("experts", 2.0, 3)
    assert folder.information()["timings"] == {"experts": 2.0}
    assert folder.information()["finished"].keys() == {"experts"}


def test_a_folder_in_use_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    folder = RunFolder.open(tiny(tmp_path))
    before = (folder.path / "run.json").stat().st_mtime_ns
    with folder.locked(), pytest.raises(UserError, match=r"tiny: the run is in use by process \d+"):
        RunFolder.open(tiny(tmp_path))
    assert (folder.path / "run.json").stat().st_mtime_ns == before
