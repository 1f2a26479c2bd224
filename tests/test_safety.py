"""Hostile files cannot execute code or leave their folder, and keys are never written."""

import ast
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ltdd_ray.cli import main as cli
from ltdd_ray.cluster.trajectory import drop_unusable
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask
from ltdd_ray.config import RunConfig, result_fingerprint
from ltdd_ray.config.loading import dump_config, load_config
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.checkpoint import PROGRESS, STATE, load_checkpoint
from ltdd_ray.distill.trajectory.synthetic import SyntheticSet
from ltdd_ray.runs.folder import RunFolder
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.store import TrajectoryStore
from ltdd_ray.workflows.pipeline import open_run, record_failure

Tiny = Callable[..., RunConfig]
ROOT = Path(__file__).parent.parent
SOURCES = [
    file
    for room in ("ltdd_ray", "jobs")
    for file in (ROOT / room).rglob("*.py")
    if "bench" not in file.parts
]
KEYED = "s3://AKIAKEY:SECRETKEY@bucket/store?region=eu&secret_key=SECRETKEY"


def unpickling(tree: ast.AST) -> list[str]:
    """Imports and calls in a module that could execute the content of a file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [
                name
                for name in names
                if name.split(".")[0]
                in ("pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle")
            ]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            refused = any(
                key.arg == "allow_pickle" and ast.unparse(key.value) == "False"
                for key in node.keywords
            )
            if called in (
                "torch.load",
                "yaml.load",
                "yaml.unsafe_load",
                "yaml.full_load",
                "eval",
                "exec",
                "tune.Tuner.restore",
            ):
                found.append(called)
            if called in ("np.load", "numpy.load") and not refused:
                found.append(called)
    return found


def test_no_module_unpickles() -> None:
    assert len(SOURCES) > 60
    assert {
        str(file): found for file in SOURCES if (found := unpickling(ast.parse(file.read_text())))
    } == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from torch import x; torch.load(f)",
        "np.load(f)",
        "from joblib import load",
        "yaml.load(f)",
    ],
)
def test_the_check_finds_unpickling(code: str) -> None:
    assert unpickling(ast.parse(code))


SHIPPED = {  # files that come with the package or the system
    "ltdd_ray/config/shipped.py",
    "ltdd_ray/cli/commands.py",
    "ltdd_ray/common/hardware.py",
    "ltdd_ray/config/overlays.py",
    "ltdd_ray/methods/published.py",
    "ltdd_ray/nn/kernels/build.py",
}


def reading(tree: ast.AST) -> list[str]:
    """The calls in ``tree`` that hang when the file is a named pipe."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func).split(".")[-1] for call in calls if _is_method(call.func)}
    return sorted(names & {"read_text", "read_bytes"}) + [
        ast.unparse(call)
        for call in calls
        if ast.unparse(call.func).split(".")[-1] == "open"
        and any(ast.unparse(word) in ("'rb'", "'r'", "'a'") for word in call.args)
    ]


def _is_method(func: ast.expr) -> bool:
    return isinstance(func, ast.Attribute)


def test_no_module_waits_for_a_pipe() -> None:
    files = {str(file.relative_to(ROOT)): file for file in SOURCES}
    assert set(files) >= SHIPPED
    found = {
        name: calls
        for name, file in files.items()
        if name not in SHIPPED and (calls := reading(ast.parse(file.read_text())))
    }
    assert found == {"ltdd_ray/common/files.py": ["written.open('rb')"]}  # its own new files


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


@pytest.fixture
def bomb(tmp_path: Path) -> bytes:
    """A pickle that works."""
    content = pickle.dumps(Bomb(tmp_path / "trace"))
    pickle.loads(content)
    (tmp_path / "trace").unlink()
    return content


def test_a_malicious_checkpoint_is_refused(bomb: bytes, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(bomb)
    (tmp_path / PROGRESS).write_text('{"update": 3}')
    synthetic = SyntheticSet(torch.zeros(2, 1, 8, 8), torch.zeros(2, 2), torch.arange(2), 0.1)
    train = LongTailedDataset(np.zeros((2, 1, 8, 8), np.uint8), np.arange(2), ("a", "b"))
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path, synthetic, torch.optim.SGD(synthetic.parameters(), 0.1), train)
    assert not (tmp_path / "trace").exists()


def test_a_malicious_distilled_set_is_refused(bomb: bytes, tmp_path: Path) -> None:
    (tmp_path / "distilled.safetensors").write_bytes(bomb)
    with pytest.raises(UserError, match="not a readable distilled set"):
        DistilledSet.load(tmp_path)
    assert not (tmp_path / "trace").exists()


def test_a_malicious_store_is_refused(bomb: bytes, tmp_path: Path) -> None:
    golden = ROOT / "tests" / "store" / "golden" / "v1"
    for file in golden.iterdir():
        content = bomb if file.suffix == ".arrow" else file.read_bytes()
        (tmp_path / file.name).write_bytes(content)
    store = TrajectoryStore.open(str(tmp_path))
    with pytest.raises(UserError):
        store.segment(0, "representation", 0, 1)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.mkdir ['trace']", "name: !!python/name:os.mkdir"]
)
def test_a_config_cannot_call(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match="not readable as YAML"):
        load_config(tmp_path / "config.yaml")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["../outside", "/tmp", "..", "a/../../b"])
def test_a_list_of_checkpoints_cannot_point_out_of_the_run(name: str, tmp_path: Path) -> None:
    import ray

    (tmp_path / "outside").mkdir()
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    state = {
        "ray_version": ray.__version__,
        "checkpoint_results": [{"checkpoint_dir_name": name, "metrics": {}}],
    }
    (folder / "checkpoint_manager_snapshot.json").write_text(json.dumps(state))
    drop_unusable(folder)
    assert not folder.exists() and (tmp_path / "outside").exists()


def test_a_manifest_cannot_point_out_of_the_store(tmp_path: Path) -> None:
    import hashlib

    for file in (ROOT / "tests" / "store" / "golden" / "v1").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = tmp_path / "expert-0000.representation.json"
    body = re.sub(
        rb'"file": "', b'"file": "../../', manifest.read_bytes().partition(b"\n")[2], count=1
    )
    manifest.write_bytes(b'{"checksum": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body)
    with pytest.raises(UserError, match="copy of the manifest"):
        TrajectoryStore.open(str(tmp_path)).segment(0, "representation", 0, 1)


@pytest.mark.parametrize("name", ["../run", "a/../../b", "a/.."])
def test_a_run_cannot_be_named_out_of_its_output(name: str, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name"):
        tiny(tmp_path, name=name)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (KEYED, "s3://bucket/store?region=***&secret_key=***"),
        ("error at s3://k:s@b/x: no such file", "error at s3://b/x: no such file"),
        (
            "https://h/x?X-Amz-Signature=abc&n=1 and 'gs://u@b/y'",
            "https://h/x?X-Amz-Signature=***&n=*** and 'gs://b/y'",
        ),
        ("a@b.c wrote /plain/p@th?key", "a@b.c wrote /plain/p@th?key"),
        ("s3://bucket/with@sign", "s3://bucket/with@sign"),
    ],
)
def test_masking(text: str, masked: str) -> None:
    assert mask(text) == masked == mask(masked)


def test_keys_are_written_nowhere(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experts = {
        "count": 1,
        "store": KEYED,
        "representation": {"epochs": 6},
        "classifier": {"epochs": 3},
    }
    data = {"source": "parquet", "path": KEYED}
    config = tiny(tmp_path / "runs", experts=experts, data=data, search={"store": KEYED})
    folder = RunFolder.open(config)
    run = open_run(config, SimpleNamespace(), TextOutput())  # type: ignore[arg-type]
    run.output.stage("experts", "already finished", config.store_uri)
    folder.record_stage("experts", 1, 1)
    (folder.path / "work").touch()
    record_failure(run, UserError(f"{KEYED}: cannot be read"))
    RunFolder.open(config)  # the same config may use the folder again

    (tmp_path / "keyed.yaml").write_text(
        dump_config(config).replace("s3://bucket", "s3://AKIAKEY:SECRETKEY@bucket", 1)
    )
    assert cli.main(["run", str(tmp_path / "keyed.yaml"), "--set", f"data.source={KEYED}"]) == 1
    shown = capsys.readouterr()
    assert "bucket" in shown.out and "bucket" in shown.err
    texts = [
        shown.out,
        shown.err,
        *(file.read_text() for file in folder.path.rglob("*") if file.is_file()),
    ]
    assert len(texts) == 7 and not any("SECRET" in text or "AKIA" in text for text in texts)


def test_another_key_is_still_the_same_run(tiny: Tiny, tmp_path: Path) -> None:
    data = {"source": "parquet", "path": KEYED}
    other = {"source": "parquet", "path": KEYED.replace("SECRET", "NEW").replace("AKIA", "AKIB")}
    assert result_fingerprint(tiny(tmp_path, data=data)) == result_fingerprint(
        tiny(tmp_path, data=other)
    )
