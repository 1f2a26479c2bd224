"""``import ltdd_ray``: what a notebook uses, and what it can register, in Ray workers too."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn

import ltdd_ray
from ltdd_ray.common.registry import Registry
from ltdd_ray.config import DataConfig, EvaluateConfig, ModelConfig, RunConfig
from ltdd_ray.config.data import SOURCES
from ltdd_ray.config.model import NETWORKS
from ltdd_ray.config.shipped import shipped_configs
from ltdd_ray.data.sources import load_source
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.evaluate.sets import TrainingSet
from ltdd_ray.evaluate.train import measure, train_network
from ltdd_ray.methods import REGISTRY, known_methods, method_config
from ltdd_ray.nn import networks
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.networks import build_network
from ltdd_ray.runs.tracking import trackers

PLUGIN = """
import torch, ltdd_ray
from ltdd_ray.data.sources.arrays import load_digits

def build(config, channels):
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, config.width, 3), torch.nn.ReLU(), torch.nn.Flatten()
    )

ltdd_ray.register_source("my_digits", load_digits)
ltdd_ray.register_network("my_net", build)
ltdd_ray.register_method("my_method", {"evaluate": {"sets": ["distilled"]}})
"""


@pytest.fixture
def clean_registries() -> Iterator[None]:
    """Names registered by a test are forgotten after it."""
    registries: list[Registry[Any]] = [SOURCES, NETWORKS, REGISTRY]
    yield
    for registry in registries:
        registry._registered.clear()


def build_flat(config: ModelConfig, channels: int) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(2), nn.Flatten())


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, ltdd_ray; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "ray", "numpy", "pydantic", "yaml"}.isdisjoint(loaded)
    assert [name for name in loaded if name.startswith("ltdd_ray")] == ["ltdd_ray"]


def test_every_public_name_is_there() -> None:
    assert {*ltdd_ray.__all__} == {*ltdd_ray._MODULES, "evaluate"}
    assert {*dir(ltdd_ray)} == {*ltdd_ray.__all__, "__version__"}
    for name in ltdd_ray.__all__:
        assert callable(getattr(ltdd_ray, name)), name
        assert getattr(ltdd_ray, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'distill_set'"):
        ltdd_ray.distill_set  # noqa: B018


def test_load_config_takes_names_files_and_settings(tmp_path: Path) -> None:
    plain = ltdd_ray.load_config("demo")
    assert plain == ltdd_ray.load_config(shipped_configs()["demo"])
    changed = ltdd_ray.load_config(
        "demo", name="mine", distill__ipc=7, experts={"count": 2}, **{"evaluate.epochs": 3}
    )
    assert (changed.name, changed.distill.ipc, changed.evaluate.epochs) == ("mine", 7, 3)
    kept = plain.experts.model_copy(update={"count": 2})
    assert changed.experts == kept, "a mapping keeps the settings that it does not name"
    assert ltdd_ray.load_config("demo", ["distill.ipc=7"]).distill.ipc == 7


def test_a_file_goes_before_a_shipped_config_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "name: other\ndata: {source: digits}\ndistill: {ipc: 1}\n"
    Path("demo").write_text(text)
    assert ltdd_ray.load_config("demo").name == "other"


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        ("demoo", {}, r"demoo: no such config file; did you mean `demo`\?"),
        ("demo", {"distill__ipcc": 3}, r"unknown key `distill.ipcc`; did you mean `distill.ipc`"),
        ("demo", {"data__source": "digit"}, r"unknown source `digit`; did you mean `digits`"),
        ("demo", {"model__name": "vgg"}, r"unknown network `vgg`; did you mean `vgg11`"),
        ("demo", {"plugins": ["no_such"]}, r"plugins: module `no_such` cannot be imported"),
    ],
)
def test_load_config_names_what_is_wrong(path: str, settings: dict, message: str) -> None:
    with pytest.raises(ltdd_ray.UserError, match=message):
        ltdd_ray.load_config(path, **settings)


def test_evaluate_is_the_published_protocol(make_set: Callable[..., DistilledSet]) -> None:
    distilled = make_set()
    torch.manual_seed(0)
    weights = nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 8, 3)).state_dict()
    test_images, test_labels = distilled.pixels(), distilled.classes

    def fresh() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 8, 3))
        model.load_state_dict(weights)
        return model

    found = ltdd_ray.evaluate(distilled, fresh(), test_images, test_labels, epochs=4, seed=5)
    model = fresh()
    given = TrainingSet(distilled.pictures, distilled.soft_labels, distilled.learning_rate)
    train_network(model, given, EvaluateConfig(epochs=4), Augmentation("flip_crop"), 5)
    wanted = measure(model, distilled.normalisation.apply(test_images), test_labels)
    assert found == wanted and len(found.per_class) == 3
    assert found.accuracy == pytest.approx(sum(found.per_class) / 3)


def test_evaluate_learns_what_can_be_learned(make_set: Callable[..., DistilledSet]) -> None:
    distilled = make_set()
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 8, 3))
    hard = torch.eye(3)[distilled.classes]
    distilled = replace(distilled, soft_labels=hard)
    found = ltdd_ray.evaluate(
        distilled, model, distilled.pixels(), distilled.classes, epochs=60, augmentation=""
    )
    assert found.per_class == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(6, 3, 9, 8)}, "test_images are torch.float32 .*give pixels 0..255"),
        ({"images": torch.zeros(6, 3, 8, 8, dtype=torch.uint8)}, r"shape \(N, 3, 9, 8\)"),
        ({"labels": torch.tensor([0, 0, 1, 1, 2])}, "give 6 whole numbers"),
        ({"labels": torch.tensor([0, 0, 1, 1, 2, 3])}, r"test label 3 lies outside 0..2"),
        (
            {
                "images": torch.zeros(0, 3, 9, 8, dtype=torch.uint8),
                "labels": torch.zeros(0, dtype=torch.int64),
            },
            "there are no test images",
        ),
        (
            {"model": nn.Sequential(nn.Flatten(), nn.LazyLinear(2))},
            r"one logit per class, \(2, 3\)",
        ),
        (
            {"model": nn.Sequential(nn.Flatten(), nn.Linear(5, 3))},
            r"does not take images of shape \(2, 3, 9, 8\), those of the set \(.*mat1 and mat2",
        ),
        (
            {"model": nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.LazyLinear(3))},
            r"channels.*; build it for \(3, 9, 8\)",
        ),
    ],
)
def test_evaluate_names_what_is_wrong(
    change: dict, message: str, make_set: Callable[..., DistilledSet]
) -> None:
    distilled = make_set()
    usual = {
        "model": nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
        "images": distilled.pixels(),
        "labels": distilled.classes,
    }
    with pytest.raises(ltdd_ray.UserError, match=message):
        ltdd_ray.evaluate(distilled, *{**usual, **change}.values(), epochs=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be greater than or equal to 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be greater than or equal to 1"),
        ({"momentum": 2}, "momentum is 2; it must be less than 1"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be greater than or equal to 0"),
        ({"learning_rate": -1}, "learning_rate is -1; it must be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a finite number"),
        ({"augmentation": "shear"}, "augmentation `shear`: no operation `shear`; choose among"),
    ],
)
def test_evaluate_names_a_number_out_of_its_range(
    settings: dict, message: str, make_set: Callable[..., DistilledSet]
) -> None:
    distilled, model = make_set(), nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 8, 3))
    with pytest.raises(ltdd_ray.UserError, match=message) as caught:
        ltdd_ray.evaluate(distilled, model, distilled.pixels(), distilled.classes, **settings)
    assert "\n" not in str(caught.value)


def test_evaluate_names_its_own_argument_where_training_diverges(
    make_set: Callable[..., DistilledSet],
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 8, 3))
    distilled = make_set()
    images, labels = distilled.pixels(), distilled.classes
    with pytest.raises(ltdd_ray.UserError, match=r"not finite at rate 1e\+30; .* learning_rate$"):
        ltdd_ray.evaluate(distilled, model, images, labels, epochs=3, learning_rate=1e30)


def test_a_set_moves_between_devices(make_set: Callable[..., DistilledSet], tmp_path: Path) -> None:
    distilled = make_set()
    moved = distilled.to("meta")
    kinds = {moved.images.device.type, moved.soft_labels.device.type, moved.classes.device.type}
    assert kinds == {"meta"} and moved.normalisation.state()["mean"].device.type == "meta"
    distilled.to("cpu").save(str(tmp_path))
    assert torch.equal(ltdd_ray.DistilledSet.load(str(tmp_path)).images, distilled.images)


def test_every_built_in_network_has_a_builder() -> None:
    assert {*NETWORKS.built_in} == {*networks._BACKBONES}


@pytest.mark.usefixtures("clean_registries")
def test_a_registered_network_is_built_by_its_name() -> None:
    ltdd_ray.register_network("flat", build_flat)
    config = ModelConfig(name="flat", width=4)
    assert build_network(config, (1, 8, 8), 3, seed=0).classifier.weight.shape == (3, 16)
    assert config.label == "flat3-w4-instance"
    assert ModelConfig(name="flat", width=5).label != config.label


@pytest.mark.usefixtures("clean_registries")
def test_a_registered_name_travels_with_the_config(tmp_path: Path) -> None:
    ltdd_ray.register_network("flat", build_flat)
    ltdd_ray.register_source("other_digits", load_source)
    config = ltdd_ray.load_config("demo", model__name="flat", data__source="other_digits")
    pickled = pickle.dumps(config)
    NETWORKS._registered.clear()
    SOURCES._registered.clear()
    assert pickle.loads(pickled) == config
    assert NETWORKS.get("flat") is build_flat and SOURCES.get("other_digits") is load_source


@pytest.mark.usefixtures("clean_registries")
def test_a_registered_source_and_method_are_used() -> None:
    digits = load_source(DataConfig(source="digits"))
    ltdd_ray.register_source("mine", lambda config: digits)
    assert load_source(DataConfig(source="mine")) is digits
    ltdd_ray.register_method("plain", {"distill": {"lambda_cls": 0.0}})
    assert known_methods()[-1] == "plain"
    config = method_config(ltdd_ray.load_config("demo"), "plain")
    assert (config.method, config.distill.lambda_cls) == ("plain", 0.0)


@pytest.mark.usefixtures("clean_registries")
def test_what_cannot_be_registered_or_built() -> None:
    for register, name in (
        (ltdd_ray.register_network, "convnet"),
        (ltdd_ray.register_source, "digits"),
        (ltdd_ray.register_method, "ltdd"),
    ):
        with pytest.raises(ltdd_ray.UserError, match=f"`{name}` is built in"):
            register(name, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ltdd_ray.UserError, match=r"'a/b' cannot be registered"):
        ltdd_ray.register_network("a/b", build_flat)
    ltdd_ray.register_network("square", lambda config, channels: nn.Identity())
    with pytest.raises(ltdd_ray.UserError, match=r"end its backbone with torch.nn.Flatten"):
        build_network(ModelConfig(name="square"), (1, 8, 8), 3, seed=0)
    ltdd_ray.register_network("large", lambda config, channels: nn.Conv2d(channels, 4, 9))
    with pytest.raises(ltdd_ray.UserError, match=r"network `large` fails on images of 8x8 pixels"):
        build_network(ModelConfig(name="large"), (1, 8, 8), 3, seed=0)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_run_returns_its_results(
    tiny: Callable[..., RunConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = Mock(id="night")
    monkeypatch.setattr(trackers, "open_mlflow", lambda *_: tracker)
    evaluate = {"networks": 2, "epochs": 2, "sets": ["distilled"]}
    config = tiny(tmp_path, evaluate=evaluate, tracking={"mlflow": {"uri": "http://127.0.0.1"}})
    found = ltdd_ray.run(config, quiet=True)
    assert capsys.readouterr().out == ""
    expect_tracked(tracker, found)
    written = json.loads((tmp_path / "tiny" / "results.json").read_text())
    assert (found.accuracy.mean, found.accuracy.std) == tuple(
        written["accuracy"][key] for key in ("mean", "std")
    )
    assert found.groups.keys() == written["groups"].keys() and len(found.per_class) == 10
    assert len(found.distilled) == 20 and "<html" in found.report.read_text()
    assert f"{100 * found.accuracy.mean:.1f}" in repr(found)
    assert ltdd_ray.Results.load(str(found.path)) == found
    with pytest.raises(ltdd_ray.UserError, match=r"no readable results.json"):
        ltdd_ray.Results.load(tmp_path)


def expect_tracked(tracker: Mock, found: ltdd_ray.Results) -> None:
    """All of a run reached its tracker: updates, picture, seconds, accuracies and files."""
    updates = [update for call in tracker.metrics.mock_calls for update in call.args[0]]
    assert updates == list(range(1, 13))
    (picture,) = tracker.image.mock_calls
    assert picture.args[1].read_bytes().startswith(b"\x89PNG")
    told: dict[str, float] = {}
    for call in tracker.results.mock_calls:
        told |= call.args[0]
    seconds = {f"seconds/{stage}" for stage in ("experts", "distill", "evaluate", "report")}
    assert seconds <= told.keys() and told["accuracy/distilled"] == found.accuracy.mean
    sent = {call.args[0].name for call in tracker.file.mock_calls}
    assert {"results.json", "report.html", "distilled.safetensors"} <= sent
    tracker.end.assert_called_once_with("finished")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_compare_returns_its_table(
    tiny: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(tmp_path, evaluate={"networks": 1, "epochs": 2})
    table = ltdd_ray.compare(config, ["random", "full_ce"], quiet=True)
    assert capsys.readouterr().out == ""
    assert [row.method for row in table.rows] == ["random", "full_ce"]
    assert table.path.exists() and "full_ce" in repr(table)


@pytest.mark.ray
def test_plugins_work_on_the_command_line_and_in_workers(tmp_path: Path) -> None:
    """The command's own folder is not the working directory, as for an installed ``ltdd-ray``."""
    script, folder = tmp_path / "bin" / "ltdd-ray", tmp_path / "work"
    folder.mkdir()
    script.parent.mkdir()
    script.write_text("import sys\nfrom ltdd_ray.cli.main import main\nsys.exit(main())\n")
    (folder / "my_plugin.py").write_text(PLUGIN)
    settings = {
        "name": "mine",
        "plugins": ["my_plugin"],
        "data": {"source": "my_digits", "imbalance_factor": 10, "normalisation": "standard"},
        "model": {"name": "my_net", "width": 2},
        "augmentation": "",
        "experts": {
            "count": 1,
            "representation": {"epochs": 2, "sharpness": "none"},
            "classifier": {"epochs": 2},
        },
        "distill": {
            "ipc": 1,
            "updates": 1,
            "representation": {"syn_steps": 1, "start_epochs": {"max": 0}},
            "classifier": {"syn_steps": 1},
            "lr_image": 1,
        },
        "evaluate": {"networks": 1, "epochs": 1},
        "compute": {"num_actors": 1, "num_workers": 1, "num_cpus": 2},
    }
    (folder / "mine.yaml").write_text(json.dumps(settings))
    root = Path(ltdd_ray.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(script), "compare", "mine.yaml", "--methods", "my_method"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "runs" / "mine" / "my_method" / "results.json").read_text())
    assert results["dataset"] == "my_digits" and results["model"]["name"] == "my_net"
