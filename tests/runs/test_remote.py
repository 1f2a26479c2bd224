"""Whole runs at an address of a real S3 server process, without Ray."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest
from pyarrow import fs
from s3kit import FULL, REQUEST, Relay, address, make_bucket, s3_server

import ltdd_ray
from ltdd_ray.cli.main import main
from ltdd_ray.common.address import cache_folder
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config
from ltdd_ray.runs.claim import ClaimedError
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.remote import RemoteRun, remote_run
from ltdd_ray.runs.status import read_status

pytest.importorskip("moto.server")
Tiny = Callable[..., RunConfig]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# Drives a run until it ends, one process after another. Each of them is killed when it begins its
# second unit of work, once its mirror has gone round, and its folder is deleted, as if the next one
# were on another machine. The exit statuses are the last line.
DRIVERS = f"""
import json, os, shutil, signal, sys, time
sys.modules["ray"] = None
sys.path.insert(0, {str(BENCHMARKS)!r})
import without_ray
from ltdd_ray.nn.kernels.build import load_kernels
from ltdd_ray.runs import claim, remote
claim.SECONDS_BETWEEN_SIGNS = remote.SECONDS_BETWEEN_SIGNS = 0.4
claim.SECONDS_OF_SILENCE = 1.0
config, output, caches = sys.argv[1:]
load_kernels("float")  # from the user's cache
os.environ["XDG_CACHE_HOME"] = caches
rounds = []
push = remote.Mirror.push

def counted(mirror):
    push(mirror)
    rounds.append(mirror)

class Fatal(without_ray.Timer):
    def begin_unit(self):
        if self._begun:
            seen = len(rounds)
            while len(rounds) < seen + 2:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        self._begun = True

remote.Mirror.push = counted
without_ray.Timer = Fatal
statuses = []
while 0 not in statuses:
    child = os.fork()
    if not child:
        status = without_ray.main([config, "--set", f"output={{output}}"])
        sys.stdout.flush()
        os._exit(status)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if statuses[-1] != 0:
        assert statuses[-1] == -signal.SIGKILL, statuses
        shutil.rmtree(f"{{caches}}/ltdd_ray/runs")
print(json.dumps(statuses))
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server() as port:
        make_bucket(port)
        yield port


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


def small(tiny: Tiny, output: str) -> RunConfig:
    config = tiny(Path("runs"))
    sections = {
        "experts": {**config.experts.model_dump(), "count": 2},
        "distill": {**config.distill.model_dump(), "updates": 6},
        "evaluate": {"networks": 1, "epochs": 2, "sets": ["distilled", "random"]},
    }
    return tiny(Path("runs"), **sections).model_copy(update={"output": output})


def contents(folder: Path) -> str:
    files = (file for file in folder.rglob("*") if file.is_file())
    return "\n".join(file.read_bytes().decode(errors="replace") for file in files)


def accuracies(folder: Path) -> dict[str, list[float]]:
    results = json.loads((folder / "results.json").read_text())
    return {name: found["accuracy"]["runs"] for name, found in results["sets"].items()}


@pytest.mark.timeout(900)
def test_killed_in_every_unit_and_each_time_on_a_machine_without_its_files(
    port: int, tiny: Tiny, tmp_path: Path, caches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And then read at the address by all commands that read runs."""
    output, file = address(port, "bucket/killed"), tmp_path / "tiny.yaml"
    file.write_text(dump_config(small(tiny, str(tmp_path / "undisturbed"))))
    command = [sys.executable, "-c", DRIVERS, str(file), output, str(tmp_path / "machines")]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    one_thread.pop("XDG_CACHE_HOME")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout.splitlines()[-1])
    # Two experts, two halves of the distillation, two networks.
    assert statuses == [-9] * 5 + [0]
    assert "secret" not in done.stdout + contents(tmp_path / "machines")
    script = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import without_ray as w; "
    subprocess.run(
        [sys.executable, "-c", script + f"sys.exit(w.main([{str(file)!r}]))"],
        check=True,
        env=one_thread,
    )
    expected = tmp_path / "undisturbed" / "tiny"

    run = address(port, "bucket/killed/tiny")
    filesystem, path = fs.FileSystem.from_uri(run)
    with filesystem.open_input_stream(f"{path}/distilled/distilled.safetensors") as stream:
        assert stream.read() == (expected / "distilled" / "distilled.safetensors").read_bytes()
    assert len(ltdd_ray.load_distilled(run)) == 20
    assert len(ltdd_ray.load_distilled(address(port, "bucket/killed/tiny/distilled"))) == 20
    assert accuracies(cache_folder(run, "copies")) == accuracies(expected)
    names = [info.path for info in filesystem.get_file_info(fs.FileSelector(path))]
    assert not any(name.endswith("driver.json") for name in names), "the run was not given up"

    capsys.readouterr()
    assert main(["export", run, "--to", "npz", "--output", str(tmp_path / "npz")]) == 0
    assert main(["show", run, "--output", str(tmp_path / "sheet.png")]) == 0
    assert main(["report", run]) == 0
    assert main(["status", run]) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "sheet.png").exists() and list((tmp_path / "npz").iterdir())
    assert "wrote s3://bucket/killed/tiny/report.html\n" in said
    assert "s3://bucket/killed/tiny: not finished" in said  # without_ray.py makes no report
    assert filesystem.get_file_info(f"{path}/report.html").is_file
    assert main(["export", run, "--to", "npz"]) == 1 and main(["report", run, run]) == 1
    said = capsys.readouterr().err
    assert said.count("s3://bucket/killed/tiny: an address; name ") == 2
    assert "secret" not in said + contents(caches)


def nothing(sentence: str) -> None:
    raise AssertionError(sentence)


def test_a_folder_needs_no_mirror(tiny: Tiny, tmp_path: Path) -> None:
    with remote_run(tiny(tmp_path), nothing) as remote:
        assert remote is None


def test_progress_is_seen_at_the_address_while_the_run_works(
    port: int,
    tiny: Tiny,
    caches: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ltdd_ray.runs.remote.SECONDS_BETWEEN_SIGNS", 0.1)
    config = small(tiny, address(port, "bucket/seen"))
    assert config.address and config.folder.is_relative_to(caches)
    with remote_run(config, nothing) as remote:
        assert isinstance(remote, RemoteRun)
        folder = RunFolder.open(config)
        assert json.loads((folder.path / "run.json").read_text())["seed"] == 3
        remote.push()
        assert main(["status", config.address]) == 0
        assert "s3://bucket/seen/tiny: not finished" in capsys.readouterr().out
        with pytest.raises(UserError, match="in use by process"), remote_run(config, print):
            pass
    shutil.rmtree(caches)
    with remote_run(config, nothing):
        assert read_status(config.folder)["stage"] is None
    assert main(["status", address(port, "bucket/nothing")]) == 1
    assert "s3://bucket/nothing: not the folder of a run" in capsys.readouterr().err


def test_an_unused_run_is_removed_there_too(port: int, tiny: Tiny, caches: Path) -> None:
    config = small(tiny, address(port, "bucket/unused"))
    with remote_run(config, nothing) as remote:
        assert remote
        folder = RunFolder.open(config)
        remote.push()
        folder.remove_if_unused()
    filesystem, path = fs.FileSystem.from_uri(address(port, "bucket/unused"))
    found = filesystem.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    assert not [info.path for info in found if info.is_file]


class Part:
    """In place of a mirror and a claim: raises ``errors`` one after another, then nothing."""

    def __init__(self, *errors: UserError) -> None:
        self.errors, self.calls, self.quiet = list(errors), 0, Event()

    def push(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        self.quiet.set()

    renew = push

    def release(self) -> None:
        pass


def test_an_outage_in_the_background_is_told_once_and_survived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ltdd_ray.runs.remote.SECONDS_BETWEEN_SIGNS", 0.01)
    said: list[str] = []
    mirror: Any = Part(*(UserError("s3://b/r: cannot write the run") for _ in range(3)))
    remote = RemoteRun(mirror, cast(Any, Part()), said.append)
    assert mirror.quiet.wait(60)
    remote.end()
    assert said == ["s3://b/r: cannot write the run; it is tried again every 0 s"]


def test_a_driver_that_lost_the_run_uploads_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltdd_ray.runs.remote.SECONDS_BETWEEN_SIGNS", 0.01)
    mirror: Any = Part()
    claim: Any = Part(ClaimedError("s3://b/r: the run is in use by process 3 on other"))
    remote = RemoteRun(mirror, claim, nothing)
    for thread in remote._threads:
        thread.join(60)
    uploads = mirror.calls
    with pytest.raises(ClaimedError, match="in use by process 3 on other"):
        remote.check()
    with pytest.raises(ClaimedError):
        remote.end()
    assert mirror.calls == uploads


def refusal(config: RunConfig) -> str:
    """The error of a run whose address cannot be used."""
    with pytest.raises(UserError) as error, remote_run(config, nothing):
        pass
    assert "secret" not in str(error.value)
    return str(error.value)


def test_wrong_keys_are_one_sentence(tiny: Tiny, caches: Path) -> None:
    with s3_server(unchecked_requests=2) as port:
        make_bucket(port)
        said = refusal(small(tiny, address(port, "bucket/runs")))
    assert re.fullmatch(
        r"s3://bucket/runs/tiny: cannot claim the run: .*; check the address, the credentials, and "
        r"that they may list, read, write and delete there",
        said,
    )


def test_an_unreachable_server_is_one_sentence(tiny: Tiny, caches: Path) -> None:
    with s3_server() as port:
        pass
    assert re.fullmatch(
        r"s3://bucket/runs/tiny: cannot claim the run: .*; check the address, the credentials and "
        r"the network",
        refusal(small(tiny, address(port, "bucket/runs"))),
    )


def test_a_bucket_that_fills_up_keeps_the_work_here(port: int, tiny: Tiny, caches: Path) -> None:
    full = False

    def on_send(data: bytes) -> bytes | None:
        request = REQUEST.match(data)
        return FULL if full and request and request[1] in (b"PUT", b"POST") else None

    relay = Relay(port, on_send)
    config = small(tiny, address(relay.port, "bucket/full"))
    with (
        pytest.raises(
            UserError,
            match=r"^s3://bucket/full/tiny: cannot write the run: .*; free space there or raise "
            "its quota; the same command then goes on$",
        ),
        remote_run(config, nothing),
    ):
        folder = RunFolder.open(config)
        full = True
        folder.record_stage("experts", 1.0, 1)
    full = False
    with remote_run(config, nothing):
        assert RunFolder.open(config).information()["timings"] == {"experts": 1.0}
    shutil.rmtree(caches)
    with remote_run(config, nothing):
        assert RunFolder.open(config).information()["timings"] == {"experts": 1.0}
    relay.close()
