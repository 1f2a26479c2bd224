"""A real S3 server process: ranges, many writers at once, writers killed at every request."""

import json
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from pyarrow import fs
from s3kit import FORBIDDEN, REQUEST, Relay, address, make_bucket, s3_server
from storekit import make_header, make_layout, run, vectors, write

from ltdd_ray.cli import store as cli
from ltdd_ray.common.errors import UserError
from ltdd_ray.store import TrajectoryStore, collect_garbage

pytest.importorskip("moto.server")
LARGE = make_layout(2_650_000, 1000)  # a row is more than one part of a multipart upload


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server() as port:
        make_bucket(port)
        yield port


def objects(port: int, folder: str) -> list[str]:
    filesystem, path = fs.FileSystem.from_uri(address(port, f"bucket/{folder}"))
    return sorted(
        info.base_name
        for info in filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        if info.is_file
    )


def check(uri: str, header, epochs=range(4)) -> None:
    """Sound, finished, and right in every row."""
    store = TrajectoryStore.open(uri)
    assert store.verify() == [] and store.missing([header]) == []
    assert store.epochs(header.expert, header.stage) == tuple(epochs)
    for epoch in epochs:
        for name, expected in vectors(header, epoch).items():
            np.testing.assert_array_equal(
                store.column(header.expert, header.stage, epoch, name).numpy(), expected
            )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_reads_what_was_written(port, dtype):
    uri = address(port, f"bucket/deep/{dtype}")
    with pytest.raises(UserError, match="no trajectory store here"):
        TrajectoryStore.open(uri)
    for stage in ("representation", "classifier"):
        write(uri, make_header(3, stage, dtype=dtype))
        check(uri, make_header(3, stage, dtype=dtype))
    segment = TrajectoryStore.open(uri).segment(3, "classifier", 0, 2)
    np.testing.assert_array_equal(
        segment.start_backbone.numpy(), vectors(make_header(3, dtype=dtype), 3)["backbone"]
    )


def test_a_read_transfers_one_row_and_the_next_none(port):
    header = make_header(layout=make_layout(100_000, 10))
    write(address(port, "bucket/ranges"), header, range(5))
    relay = Relay(port, lambda data: None)
    store = TrajectoryStore.open(address(relay.port, "bucket/ranges"))
    store.epochs(0, "representation")
    before = relay.received
    expected = vectors(header, 3)
    for name, values in expected.items():
        np.testing.assert_array_equal(store.column(0, "representation", 3, name).numpy(), values)
    row = sum(values.nbytes for values in expected.values())
    transferred = relay.received - before
    assert row <= transferred < row + 4096  # of five rows
    store.read(0, "representation", 3)
    assert relay.received - before == transferred
    relay.close()


# Five processes that wait for the pipe to be closed and then all write at once.
WRITERS = """
import os, sys
from storekit import make_header, write
waits, opens = os.pipe()
children = []
for own in range(5):
    children.append(os.fork())
    if not children[-1]:
        os.close(opens)
        os.read(waits, 1)
        write(sys.argv[1], make_header(99))
        write(sys.argv[1], make_header(own))
        write(sys.argv[1], make_header(own, "classifier"))
        os._exit(0)
os.close(opens)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


def test_writers_at_once_do_not_disturb_each_other(port):
    """Each writes two trajectories of its own, and all of them one more."""
    uri = address(port, "bucket/many")
    done = run(WRITERS, uri)
    assert done.returncode == 0, done.stderr
    for own in range(5):
        check(uri, make_header(own))
        check(uri, make_header(own, "classifier"))
    check(uri, make_header(99))
    collect_garbage(uri, min_age=0)
    assert len(objects(port, "many")) == 2 * 11
    check(uri, make_header(99))


# Forks a writer per step. The n-th kills itself at its n-th event: before a request, before its
# body, or within a large body. The last survives.
KILLED_WRITERS = """
import json, os, signal, sys
from s3kit import REQUEST, Relay, address
from storekit import make_header, make_layout, write
port, layout = int(sys.argv[1]), make_layout(2_650_000, 1000)

def die_at(step):
    count, chunks = 0, 0
    def on_send(data):
        nonlocal count, chunks
        chunks = 0 if REQUEST.match(data) else chunks + 1
        count += chunks in (0, 1, 40)
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
    return on_send

outcomes = []
while 0 not in outcomes:
    child = os.fork()
    if not child:
        relay = Relay(port, die_at(len(outcomes) + 1))
        uri = address(relay.port, f"bucket/killed/{len(outcomes)}")
        write(uri, make_header(layout=layout), range(1))
        os._exit(0)
    outcomes.append(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(outcomes))
"""


def test_a_writer_killed_at_any_request_leaves_nothing_or_the_whole(port):
    header = make_header(layout=LARGE)
    done = run(KILLED_WRITERS, port)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes == [signal.SIGKILL] * (len(outcomes) - 1) + [0]
    states = []
    for step in range(len(outcomes)):
        uri, present = address(port, f"bucket/killed/{step}"), objects(port, f"killed/{step}")
        store = TrajectoryStore.open(uri, create=True)
        finished = store.trajectories() != []
        states.append("whole" if finished else "data" if present else "nothing")
        if finished:
            check(uri, header, range(1))
        else:
            assert not any(name.endswith(".json") for name in present)
            assert store.missing([header]) == [header]
            with pytest.raises(UserError, match="no representation trajectory of expert 0"):
                store.read(0, "representation", 0)
    assert set(states) == {"nothing", "data", "whole"} and (states[0], states[-1]) == (
        "nothing",
        "whole",
    )
    for step in (0, states.index("data"), states.index("whole")):
        uri = address(port, f"bucket/killed/{step}")
        write(uri, header, range(1))
        check(uri, header, range(1))
        collect_garbage(uri, min_age=0)
        assert len(objects(port, f"killed/{step}")) == 2
        check(uri, header, range(1))


REFUSED_WRITER = """
import sys
from ltdd_ray.common.errors import UserError
from storekit import make_header, make_layout, write
try:
    write(sys.argv[1], make_header(layout=make_layout(int(sys.argv[2]), 1000)), range(1))
except UserError as error:
    print(error)
"""


def test_a_manifest_that_cannot_be_uploaded_spares_that_of_a_rival(port):
    """The rival finishes after this writer's check; this writer's manifest is then refused."""
    header, direct = make_header(layout=make_layout(6, 1000)), address(port, "bucket/refused")

    def on_send(data):
        request = REQUEST.match(data)
        if request is None or request[1] not in (b"PUT", b"POST") or b".json" not in request[2]:
            return None
        if not TrajectoryStore.open(direct).trajectories():
            write(direct, header, range(2))
        return FORBIDDEN

    done = run(REFUSED_WRITER, address(Relay(port, on_send).port, "bucket/refused"), 6)
    assert (
        "cannot write a trajectory: " in done.stdout
        and "; check the address, the credentials" in done.stdout
    ), done.stderr
    check(direct, header, range(2))


def test_an_upload_that_is_refused_leaves_nothing(port):
    header, direct = make_header(layout=LARGE), address(port, "bucket/part")

    def on_send(data):
        request = REQUEST.match(data)
        return FORBIDDEN if request and b"partNumber=2" in request[2] else None

    done = run(
        REFUSED_WRITER, address(Relay(port, on_send).port, "bucket/part"), LARGE.backbone_size
    )
    assert "cannot write a trajectory: " in done.stdout, done.stderr
    assert objects(port, "part") == []
    write(direct, header, range(1))
    check(direct, header, range(1))


def test_the_command_line(port, capsys):
    uri = address(port, "bucket/command")
    write(uri, make_header())
    filesystem, path = fs.FileSystem.from_uri(uri)
    stray = f"expert-0001.classifier.{'a' * 32}.arrow"
    with filesystem.open_output_stream(f"{path}/{stray}") as stream:
        stream.write(b"debris")
    assert cli.ls(uri, True) == 0 and len(json.loads(capsys.readouterr().out)) == 1
    assert (
        cli.verify(uri, False) == 0 and cli.gc(uri, True) == 0
    )  # it may be a live writer's for an hour
    assert "secret" not in capsys.readouterr().out
    assert objects(port, "command")[-1] == stray


def test_a_server_that_is_gone_is_one_sentence_without_the_key():
    with s3_server() as port:
        pass
    uri = address(port, "bucket/gone")
    with pytest.raises(
        UserError,
        match=r"^s3://bucket/gone: cannot open .*; "
        r"check the address, the credentials and the network$",
    ) as e:
        TrajectoryStore.open(uri)
    assert "secret" not in str(e.value)
