from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.evaluate.plan import evaluation_identity, plan_networks, require_models
from ltdd_ray.evaluate.train import NetworkResult, evaluate_network

RESULT = NetworkResult(
    accuracy=0.5,
    accuracy_over_images=0.7,
    per_class=(0.25, 0.75),
    confidence=(0.9, 0.8),
    true_confidence=(0.7, 0.6),
    set_name="random",
    model="convnet2-w4-instance",
    network=1,
    images=6,
    labels="hard",
    classifier_norms=(1.0, 2.0),
    tau=None,
    seconds=1.5,
)


def write_set(folder: Path, content: bytes) -> None:
    (folder / "distilled").mkdir(exist_ok=True)
    (folder / "distilled" / "distilled.safetensors").write_bytes(content)


def test_a_result_is_found_again_only_for_the_same_distilled_set(
    tmp_path: Path, tiny: Callable[..., RunConfig]
) -> None:
    config = tiny(tmp_path)
    data = prepare_data(config)
    write_set(tmp_path, b"one")
    records = plan_networks(config, data, tmp_path)
    assert [(r.set_name, r.network) for r in records] == [
        ("distilled", 0),
        ("distilled", 1),
        ("random", 0),
        ("random", 1),
    ]
    records[3].write(RESULT)
    assert [record.read() for record in plan_networks(config, data, tmp_path)] == [
        None,
        None,
        None,
        RESULT,
    ]

    assert plan_networks(tiny(tmp_path, seed=4), data, tmp_path)[3].read() is None
    write_set(tmp_path, b"another")
    assert plan_networks(config, data, tmp_path)[3].read() is None


def test_networks_are_found_again_beside_more_of_them(
    tmp_path: Path, tiny: Callable[..., RunConfig]
) -> None:
    """With another set, another network and another architecture, but not with other epochs."""
    config = tiny(tmp_path, evaluate={"networks": 1, "sets": ["distilled"]})
    data = prepare_data(config)
    write_set(tmp_path, b"one")
    records = plan_networks(config, data, tmp_path)
    records[0].write(RESULT)
    more = {"networks": 2, "sets": ["random", "distilled"], "models": [{"name": "alexnet"}]}
    others = plan_networks(tiny(tmp_path, evaluate=more), data, tmp_path)
    assert [record.file.name for record in others if record.read()] == ["distilled-0.json"]
    assert len({record.identity for record in others}) == 2, "one for each architecture"
    assert evaluation_identity(others) != evaluation_identity(records)
    longer = tiny(tmp_path, evaluate={"networks": 1, "sets": ["distilled"], "epochs": 9})
    assert not plan_networks(longer, data, tmp_path)[0].read()


def test_a_broken_file_counts_as_missing(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    config = tiny(tmp_path)
    write_set(tmp_path, b"one")
    record = plan_networks(config, prepare_data(config), tmp_path)[0]
    record.write(RESULT)
    record.file.write_bytes(record.file.read_bytes()[:-9])
    assert record.read() is None


def test_other_architectures_are_trained_on_the_first_set_in_files_of_their_own(
    tmp_path: Path, tiny: Callable[..., RunConfig]
) -> None:
    models = [
        {"name": "resnet18", "norm": "batch"},
        {"name": "alexnet"},
        {"width": 4, "depth": 2},
    ]  # the last is the run's own
    config = tiny(
        tmp_path, evaluate={"networks": 1, "sets": ["random", "distilled"], "models": models}
    )
    write_set(tmp_path, b"one")
    records = plan_networks(config, prepare_data(config), tmp_path)
    assert [(r.set_name, r.model, r.file.name) for r in records] == [
        ("random", "convnet2-w4-instance", "random-0.json"),
        ("distilled", "convnet2-w4-instance", "distilled-0.json"),
        ("random", "resnet18-batch", "random-resnet18-batch-0.json"),
        ("random", "alexnet", "random-alexnet-0.json"),
    ]


@pytest.mark.parametrize(
    ("name", "why"), [("vgg11", "vanish in the pooling"), ("resnet18", "set model.norm to batch")]
)
def test_an_architecture_too_large_for_the_images_is_named(
    tmp_path: Path, tiny: Callable[..., RunConfig], name: str, why: str
) -> None:
    config = tiny(tmp_path, evaluate={"models": [{"name": name}]})
    with pytest.raises(
        UserError, match=rf"evaluate\.models: .*{why}.*; or leave {name}-instance out"
    ):
        require_models(config, prepare_data(config))


def test_a_network_is_trained_and_measured(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    config = tiny(tmp_path, evaluate={"epochs": 2, "models": [{"name": "alexnet"}]})
    epochs: list[int] = []
    found = evaluate_network(
        config,
        prepare_data(config),
        "random",
        "alexnet",
        1,
        lambda report: epochs.append(report.epoch),
    )
    assert (found.set_name, found.model, found.network, found.tau, epochs) == (
        "random",
        "alexnet",
        1,
        None,
        [1, 2],
    )
    for per_class in (
        found.per_class,
        found.confidence,
        found.true_confidence,
        found.classifier_norms,
    ):
        assert len(per_class) == 10 and min(per_class) >= 0
    assert all(top >= true for top, true in zip(found.confidence, found.true_confidence))
    assert min(found.classifier_norms) > 0


def test_a_selection_needs_no_distilled_set(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    config = tiny(tmp_path, evaluate={"networks": 1, "sets": ["random", "full_ce"]})
    records = plan_networks(config, prepare_data(config), tmp_path)
    assert [record.file.name for record in records] == ["random-0.json", "full_ce-0.json"]
