"""A disk that fills up at every step of a commit: a small tmpfs in its own mount namespace."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WRITES_INTO_LITTLE_ROOM = """
import json, shutil, sys
from pathlib import Path
from storekit import make_header, make_layout, write
from ltdd_ray.common.errors import UserError
from ltdd_ray.store import TrajectoryStore

root, store = Path(sys.argv[1]), Path(sys.argv[1]) / "store"
layout = make_layout(5000, 1000)
first, second = (make_header(n, layout=layout, class_counts=range(2000)) for n in range(2))
write(store, first)
kept = sorted(store.iterdir())
page, outcomes = 4096, []
while not outcomes or outcomes[-1] != "written":
    room = len(outcomes) * page
    (root / "filler").write_bytes(bytes(shutil.disk_usage(root).free - room))
    try:
        write(store, second)
        outcomes.append("written")
    except UserError as error:
        said = str(error)
        assert "cannot write a trajectory: No space left on device; check the path," in said
        assert sorted(store.iterdir()) == kept, sorted(store.iterdir())
        outcomes.append("refused")
    (root / "filler").unlink()
    assert TrajectoryStore.open(str(store)).verify() == []
assert len(TrajectoryStore.open(str(store)).trajectories()) == 2
print(json.dumps(outcomes))
"""


def test_a_full_disk_at_any_step_is_one_sentence_and_leaves_what_was_there(tmp_path):
    mounted = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "$@"'
    alone = ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, "sh"]
    try:
        subprocess.run([*alone, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespaces here")
    here = Path(__file__).parents[1] / "kits"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent.parent)])}
    command = [*alone, sys.executable, "-c", WRITES_INTO_LITTLE_ROOM, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes.count("refused") > 20 and outcomes[-1] == "written"  # four rows of 24 kB
