"""Writers that die at every step, race each other, or write while others read and clean."""

import fcntl
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from storekit import data_file, make_header, names, run, vectors, write

from ltdd_ray.common.errors import UserError
from ltdd_ray.store import TrajectoryStore, TrajectoryWriter, collect_garbage

# Forks a writer per step. The n-th kills itself before its n-th call of a function that touches the
# disk. The last survives.
KILLED_WRITERS = """
import fcntl, json, os, signal, sys
from pathlib import Path
from storekit import make_header, write
from ltdd_ray.store.drafts import DraftFile

def die_at(step):
    count = 0
    def counted(real):
        def call(*arguments, **keywords):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)
        return call
    os.fsync = lambda descriptor: None
    places = [(Path, "mkdir"), (fcntl, "flock"), (os, "fsync"), (os, "replace")]
    for place, name in places + [(DraftFile, name) for name in ("write", "flush", "close")]:
        setattr(place, name, counted(getattr(place, name)))

write(f"{sys.argv[1]}/warm-up", make_header())  # all forks share the modules loaded here
outcomes = []
while 0 not in outcomes:
    child = os.fork()
    if not child:
        die_at(len(outcomes) + 1)
        write(f"{sys.argv[1]}/{len(outcomes)}", make_header(), range(2))
        os._exit(0)
    outcomes.append(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(outcomes))
"""


def test_a_writer_killed_at_any_step_leaves_nothing_or_the_whole(tmp_path):
    done = run(KILLED_WRITERS, tmp_path)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes == [signal.SIGKILL] * (len(outcomes) - 1) + [0]
    states = set()
    for step in range(len(outcomes)):
        folder = str(tmp_path / str(step))
        store = TrajectoryStore.open(folder, create=True)
        debris = [name for name in names(Path(folder)) if name.endswith((".tmp", ".arrow"))]
        if store.trajectories():
            states.add("whole")
            assert store.verify() == []
        else:
            states.add("debris" if debris else "nothing")
            assert store.missing([make_header()]) == [make_header()]
            if any(name.endswith(".arrow") for name in debris):
                states.add("data without manifest")
                assert [p.kind for p in store.verify()] == ["foreign"]
        write(folder, make_header(), range(2))
        assert store.verify() == [] and store.missing([make_header()]) == []
        for epoch in (0, 1):
            np.testing.assert_array_equal(
                store.read(0, "representation", epoch)[1],
                vectors(make_header(), epoch)["classifier"],
            )
        assert len(names(Path(folder))) == 2, "debris outlived the next writer"
    assert states == {"nothing", "debris", "data without manifest", "whole"}
    assert len(outcomes) > 30


def test_two_writers_of_one_trajectory_end_with_the_first_to_finish(tmp_path):
    header = make_header()
    with TrajectoryWriter(str(tmp_path), header) as slow:
        slow.append(0, **vectors(header, 0))
        with TrajectoryWriter(str(tmp_path), header) as quick:
            quick.append(0, **vectors(header, 0))
            assert len(names(tmp_path)) == 2
        reader = TrajectoryStore.open(str(tmp_path))
        first = data_file(tmp_path)
    assert data_file(tmp_path) == first and len(names(tmp_path)) == 2
    assert reader.verify() == []
    reader.read(0, "representation", 0)


def test_a_rival_of_another_config_does_not_overwrite(tmp_path):
    with (
        pytest.raises(UserError, match="another config"),
        TrajectoryWriter(str(tmp_path), make_header(identity="late")) as late,
    ):
        late.append(0, **vectors(make_header(), 0))
        write(tmp_path, make_header())
    assert (
        len(names(tmp_path)) == 2
        and TrajectoryStore.open(str(tmp_path)).trajectories()[0].header == make_header()
    )


def test_both_writers_passing_the_check_still_leave_one_valid_file(tmp_path, monkeypatch):
    """The second manifest replaces the first after the check; the first's data becomes debris."""
    header = make_header()
    with TrajectoryWriter(str(tmp_path), header) as slow:
        slow.append(0, **vectors(header, 0))
        write(tmp_path, header)
        monkeypatch.setattr(slow, "_existing", lambda: None)
    store = TrajectoryStore.open(str(tmp_path))
    assert store.epochs(0, "representation") == (0,)
    assert store.verify() == [] and len(names(tmp_path)) == 2


def test_a_reader_sees_what_is_added_while_it_is_open(tmp_path):
    write(tmp_path, make_header(0))
    store = TrajectoryStore.open(str(tmp_path))
    held = store.read(0, "representation", 0)[1]
    with TrajectoryWriter(str(tmp_path), make_header(1)) as writer:
        writer.append(0, **vectors(make_header(1), 0))
        assert [m.header.expert for m in store.trajectories()] == [0] and store.verify() == []
        with pytest.raises(UserError, match="no representation trajectory of expert 1"):
            store.read(1, "representation", 0)
    assert [m.header.expert for m in store.trajectories()] == [0, 1]
    store.read(1, "representation", 0)
    np.testing.assert_array_equal(held, vectors(make_header(0), 0)["classifier"])


def test_garbage_collection_spares_live_writers_and_finished_trajectories(tmp_path):
    write(tmp_path, make_header(0))
    kept = names(tmp_path)
    dead = [f"expert-0001.classifier.{'a' * 32}.tmp", f"expert-0001.classifier.{'b' * 32}.arrow"]
    for name in dead:
        (tmp_path / name).write_bytes(b"debris")
    (tmp_path / "notes.txt").write_text("not ours")
    with TrajectoryWriter(str(tmp_path), make_header(1)) as live:
        live.append(0, **vectors(make_header(1), 0))
        assert collect_garbage(str(tmp_path), min_age=0) == dead
    assert collect_garbage(str(tmp_path), min_age=0) == []
    assert set(names(tmp_path)) > {*kept, "notes.txt"} and len(names(tmp_path)) == 5
    assert len(TrajectoryStore.open(str(tmp_path)).trajectories()) == 2


def test_a_published_data_file_stays_owned_until_its_manifest_is_written(tmp_path, monkeypatch):
    seen = []

    class Draft:
        """The manifest's draft, which looks at the store just before the manifest is written."""

        def __init__(self, real):
            seen.append(
                (
                    collect_garbage(str(tmp_path), min_age=0),
                    names(tmp_path),
                    TrajectoryStore.open(str(tmp_path)).verify(),
                )
            )
            self.file, self.publish, self.close = real.file, real.publish, real.close

    with TrajectoryWriter(str(tmp_path), make_header()) as writer:
        writer.append(0, **vectors(make_header(), 0))
        real = writer._folder.draft
        monkeypatch.setattr(writer._folder, "draft", lambda prefix: Draft(real(prefix)))
    ((removed, present, problems),) = seen
    assert removed == [] and problems == [] and any(name.endswith(".arrow") for name in present)
    assert TrajectoryStore.open(str(tmp_path)).verify() == []


def test_a_temporary_collected_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    lock, collected = fcntl.flock, []

    def late(file, operation):
        if not collected:
            collected.extend(tmp_path.iterdir())
            collected[0].unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write(tmp_path, make_header())
    assert collected and TrajectoryStore.open(str(tmp_path)).verify() == []


def test_without_locks_age_tells_debris(tmp_path, monkeypatch):
    def unsupported(file, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    write(tmp_path, make_header(0))
    stray = f"expert-0001.classifier.{'d' * 32}.tmp"
    (tmp_path / stray).write_bytes(b"debris")
    assert collect_garbage(str(tmp_path)) == []
    os.utime(tmp_path / stray, (0, 0))
    assert collect_garbage(str(tmp_path)) == [stray]


@pytest.mark.parametrize("days", [-400, 400])
@pytest.mark.parametrize("place", ["without locks", "objects"])
def test_a_wrong_clock_of_this_machine_removes_nothing(tmp_path, remote, monkeypatch, days, place):
    """The debris of a writer that may be alive is dated by the clock of the store."""

    def unsupported(file, operation):
        raise OSError(95, "Operation not supported")

    folder = tmp_path / "bucket" / "store"
    uri = remote if place == "objects" else str(folder)
    monkeypatch.setattr(fcntl, "flock", unsupported)
    write(uri, make_header(0))
    young, old = (f"expert-0001.classifier.{digit * 32}.arrow" for digit in "de")
    (folder / young).write_bytes(b"data whose manifest is on its way")
    (folder / old).write_bytes(b"debris")
    os.utime(folder / old, (time.time() - 7200,) * 2)
    now = time.time() + days * 86400
    monkeypatch.setattr(time, "time", lambda: now)
    write(uri, make_header(1, "classifier"))
    assert (folder / young).exists()
    assert collect_garbage(uri) == []  # the writer of the same trajectory has removed the old one
    assert not (folder / old).exists() and len(names(folder)) == 5


def test_objects_are_debris_by_age_alone(tmp_path, remote):
    folder = tmp_path / "bucket" / "store"
    write(remote, make_header())
    stray = folder / f"expert-0000.representation.{'c' * 32}.arrow"
    stray.write_bytes(b"debris")
    assert collect_garbage(remote) == []
    assert collect_garbage(remote, min_age=0) == [stray.name]
    assert TrajectoryStore.open(remote).verify() == []


def test_a_failing_upload_takes_its_partial_object_with_it(tmp_path, remote, monkeypatch):
    write(remote, make_header())
    with pytest.raises(UserError, match="cannot write"), monkeypatch.context() as patch:
        patch.setattr(
            "shutil.copyfileobj", lambda *a: (_ for _ in ()).throw(OSError("connection lost"))
        )
        write(remote, make_header(1))
    assert len(names(tmp_path / "bucket" / "store")) == 2
    assert TrajectoryStore.open(remote).verify() == []


def test_the_store_imports_neither_ray_nor_the_other_rooms():
    code = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        room = name.split(".")
        other_room = room[0] == "ltdd_ray" and room[1:2] not in ([], ["store"], ["common"])
        if room[0] == "ray" or other_room:
            raise ImportError(f"the store must not import {name}")
sys.meta_path.insert(0, Wall())
import ltdd_ray.store
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
