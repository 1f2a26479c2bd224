import json
from types import SimpleNamespace

import pyarrow as pa
import pytest
from storekit import data_file, make_header, manifest_file, write

from ltdd_ray.cli import store
from ltdd_ray.cli.main import main


def test_command_line(tmp_path, capsys):
    write(tmp_path, make_header(0))
    write(tmp_path, make_header(0, "classifier"))
    assert store.ls(str(tmp_path), True) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["stage"], first["epochs"], first["train_loss"], second["stage"]) == (
        "representation",
        [0, 1, 2, 3],
        0.25,
        "classifier",
    )
    assert first["train_accuracy"] is None
    assert store.ls(str(tmp_path), False) == 0 and "4 in 0..3" in capsys.readouterr().out
    assert store.verify(str(tmp_path), False) == 0 and "sound" in capsys.readouterr().out
    assert store.gc(str(tmp_path), False) == 0 and "0 files removed" in capsys.readouterr().out

    manifest_file(tmp_path).unlink()
    stray = data_file(tmp_path).name
    assert (
        store.verify(str(tmp_path), False) == 1
        and f"foreign: {tmp_path}/{stray}" in capsys.readouterr().out
    )
    assert store.verify(str(tmp_path), True) == 1
    assert [p["kind"] for p in json.loads(capsys.readouterr().out)] == ["foreign"]
    assert store.gc(str(tmp_path), True) == 0 and json.loads(capsys.readouterr().out) == [stray]
    assert store.verify(str(tmp_path), True) == 0


@pytest.mark.parametrize("error", [pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError])
def test_an_address_arrow_cannot_open_is_one_line(
    error: type[Exception], capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_uri(uri: str) -> None:
        raise error(f"no such kind: {uri}\nand fifty lines of where it looked")

    monkeypatch.setattr(
        "ltdd_ray.store.location.fs", SimpleNamespace(FileSystem=SimpleNamespace(from_uri=from_uri))
    )
    assert main(["store", "ls", "hdfs://key:secret@host/store"]) == 2
    said = capsys.readouterr().err
    assert (
        "hdfs://host/store: not a place to store trajectories (no such kind: hdfs://host/store)"
        in said
    )
    assert said.count("\n") == 1 and "secret" not in said
