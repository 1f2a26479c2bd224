"""The word RUN of a command: a folder, an address, a config file or a shipped config."""

from pathlib import Path

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.runs.place import place_of_run

SETTINGS = "data: {source: digits}\ndistill: {ipc: 2}\n"


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("config", ["demo", Path("demo"), Path("mine.yaml")])
def test_a_config_stands_for_the_folder_of_its_run(config: Path | str) -> None:
    Path("mine.yaml").write_text(f"name: demo\n{SETTINGS}")
    with pytest.raises(UserError, match="the folder of its run, runs/demo, does not exist"):
        place_of_run(config)
    Path("runs/demo").mkdir(parents=True)
    assert place_of_run(config) == Path("runs/demo")


def test_a_folder_that_is_there_comes_before_a_shipped_config() -> None:
    for folder in ("demo", "runs/demo", "odd.yaml"):
        Path(folder).mkdir(parents=True)
    assert place_of_run(Path("demo")) == Path("demo")
    assert place_of_run(Path("odd.yaml")) == Path("odd.yaml")


def test_a_run_at_an_address_is_found_there() -> None:
    Path("far.yaml").write_text(f"name: far\noutput: s3://bucket/runs\n{SETTINGS}")
    assert place_of_run(Path("far.yaml")) == "s3://bucket/runs/far"


@pytest.mark.parametrize(
    "place", ["s3://bucket/demo", Path("none"), Path("a/distilled.safetensors")]
)
def test_other_places_stay(place: Path | str) -> None:
    assert place_of_run(place) == place
