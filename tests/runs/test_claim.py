"""Two drivers on one run at an address: here in a local folder, with time made short."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
from pyarrow import fs

from ltdd_ray.common.errors import UserError
from ltdd_ray.runs import claim
from ltdd_ray.runs.claim import CLAIM, Claim, ClaimedError


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SECONDS_BETWEEN_SIGNS", 0.1)
    monkeypatch.setattr(claim, "SECONDS_OF_SILENCE", 1.0)


@pytest.fixture
def driver(tmp_path: Path) -> Callable[[], Claim]:
    filesystem = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    return lambda: Claim(filesystem, "runs/one", "s3://bucket/runs/one")


def said_of(taker: Claim) -> list[str]:
    said: list[str] = []
    taker.take(said.append)
    return said


def test_a_run_that_was_given_up_is_taken_at_once(
    driver: Callable[[], Claim], tmp_path: Path
) -> None:
    first, second = driver(), driver()
    assert said_of(first) == []
    first.renew()
    first.release()
    assert not (tmp_path / "runs/one" / CLAIM).exists()
    assert said_of(second) == []


def test_a_live_driver_is_named(driver: Callable[[], Claim]) -> None:
    first, second, ended = driver(), driver(), Event()
    said_of(first)

    def live() -> None:
        while not ended.wait(0.2):
            first.renew()

    thread = Thread(target=live)
    thread.start()
    try:
        with pytest.raises(
            ClaimedError,
            match=r"^s3://bucket/runs/one: the run is in use by process \d+ on .*; wait until it "
            r"ends, or choose another name with --set name=\.\.\.$",
        ):
            said_of(second)
    finally:
        ended.set()
        thread.join()
    first.renew()  # it is still the first one's


def test_what_a_killed_driver_left_is_taken_over(
    driver: Callable[[], Claim], tmp_path: Path
) -> None:
    said_of(driver())
    second = driver()
    (said,) = said_of(second)
    assert "did not end it; looking for 1 s whether it still does" in said
    second.renew()


def test_the_one_whose_claim_was_replaced_stops(
    driver: Callable[[], Claim], tmp_path: Path
) -> None:
    """As after an outage of its network, or two starts at the same moment."""
    first, second = driver(), driver()
    said_of(first)
    said_of(second)
    with pytest.raises(ClaimedError, match="in use by process"):
        first.renew()
    first.release()
    assert (tmp_path / "runs/one" / CLAIM).exists(), "the claim of the second was removed"
    second.renew()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"id": 1}'])
def test_an_object_that_is_no_claim_is_that_of_a_killed_driver(
    driver: Callable[[], Claim], tmp_path: Path, content: str
) -> None:
    file = tmp_path / "runs" / "one" / CLAIM
    file.parent.mkdir(parents=True)
    file.write_text(content)
    (said,) = said_of(driver())
    assert said.startswith("an unknown process worked on this run last")
    assert json.loads(file.read_text())["holder"].startswith("process ")


def test_an_object_seen_while_it_is_replaced_is_read_again(
    driver: Callable[[], Claim], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = driver()
    said_of(first)
    file = tmp_path / "runs" / "one" / CLAIM
    whole = file.read_text()
    file.write_text(whole[:20])

    def finish(seconds: float) -> None:
        file.write_text(whole)

    monkeypatch.setattr(claim.time, "sleep", finish)
    first.renew()
    file.write_text("")
    first.release()
    assert not file.exists()


def test_a_key_in_the_command_is_not_written(
    driver: Callable[[], Claim], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["ltdd-ray", "run", "a.yaml", "--set", "output=s3://key:secret@bucket/runs"]
    monkeypatch.setattr("sys.argv", command)
    said_of(driver())
    written = (tmp_path / "runs/one" / CLAIM).read_text()
    assert "output=s3://bucket/runs" in written and "secret" not in written


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    filesystem = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    with pytest.raises(UserError, match=r"^s3://bucket/runs/one: cannot claim the run: .*; check"):
        said_of(Claim(filesystem, "runs/one", "s3://bucket/runs/one"))
