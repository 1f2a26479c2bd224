"""Files of distilled sets with generated metadata and tensors: loaded whole, or one sentence."""

import json
from pathlib import Path

import pytest
import torch
from generatedkit import altered, generated
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from ltdd_ray.common.errors import UserError
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.validity import checksum
from ltdd_ray.export.card import render_card


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    """(tensors, metadata) of a sound file."""
    from ltdd_ray.data.normalisation import Normalisation

    made = DistilledSet(
        images=torch.zeros(4, 1, 2, 2),
        soft_labels=torch.eye(2).repeat(2, 1),
        classes=torch.arange(2).repeat(2),
        learning_rate=0.1,
        normalisation=Normalisation(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)),
        class_names=("a", "b"),
        augmentation="",
        class_counts=(9, 3),
        provenance={"method": "ltdd", "images_per_class": [2, 2]},
    )
    with safe_open(made.save(tmp_path_factory.mktemp("sound")), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["ltdd_ray"])


def load(folder: Path, tensors: dict, described: dict) -> DistilledSet | None:
    """The set of a file with the right checksum, or None if it is refused."""
    described = described | {"checksum": checksum(tensors, described)}
    file = folder / "distilled.safetensors"
    file.write_bytes(save(tensors, {"ltdd_ray": json.dumps(described)}))
    try:
        return DistilledSet.load(file)
    except UserError as error:
        assert "distilled.safetensors: not a readable distilled set (" in str(error)
        return None


@generated(60)
@given(data=st.data())
def test_any_metadata(sound, tmp_path: Path, data: st.DataObject) -> None:
    tensors, described = sound
    found = load(tmp_path, tensors, altered(data, described))
    if found is not None:
        assert len(found.class_names) == 2 and len(found[0]) == 2 and found.pixels().shape[0] == 4
        render_card(found, {}, "native").encode()


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": "ab"},
        {"class_names": [1, 2]},
        {"class_names": ["a", "\ud800"]},
        {"class_counts": "ab"},
        {"class_counts": [9, -3]},
        {"augmentation": 5},
        {"provenance": []},
        {"pictures_per_side": True},
        {"learning_rate": 10**400},
    ],
)
def test_a_wrong_type_is_refused(sound, tmp_path: Path, change: dict) -> None:
    tensors, described = sound
    assert load(tmp_path, tensors, described) is not None
    assert load(tmp_path, tensors, described | change) is None


SHAPES = st.lists(st.integers(0, 4), max_size=5)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool])


@generated(60)
@given(
    name=st.sampled_from(
        ["images", "soft_labels", "classes", "normalisation.mean", "normalisation.whiten"]
    ),
    shape=SHAPES | st.just([4, 1, 2, 2]) | st.just([4, 2]) | st.just([4]),
    dtype=DTYPES,
    value=st.sampled_from([0.0, 1.0, -1.0, 2.0]),
)
@example(name="images", shape=[4, 1, 2, 2], dtype=torch.float32, value=1.0)
def test_any_tensor(sound, tmp_path: Path, name, shape, dtype, value) -> None:
    tensors, described = sound
    found = load(tmp_path, tensors | {name: torch.full(shape, value).to(dtype)}, described)
    if found is not None:
        assert found.pixels().shape == (4, 1, 2, 2) and found.soft_labels.shape == (4, 2)


@generated(60)
@given(head=st.binary(max_size=40), cut=st.integers(0, 2000))
def test_any_bytes(sound, tmp_path: Path, head: bytes, cut: int) -> None:
    tensors, described = sound
    file = tmp_path / "distilled.safetensors"
    file.write_bytes((head + save(tensors, {"ltdd_ray": json.dumps(described)})[len(head) :])[:cut])
    try:
        assert len(DistilledSet.load(file)) == 4
    except UserError as error:
        assert "not a readable distilled set" in str(error)
