"""The feature map of a set: whose images, which axes, and when there is none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.evaluate import feature_map as module
from ltdd_ray.evaluate.feature_map import feature_map, read_feature_map, write_feature_map


@pytest.fixture
def config(tiny: Callable[..., RunConfig], tmp_path: Path) -> RunConfig:
    return tiny(tmp_path, evaluate={"networks": 1, "epochs": 1, "sets": ["random"]})


@pytest.fixture
def data(config: RunConfig) -> PreparedData:
    return prepare_data(config)


@pytest.fixture
def pixels_as_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of an expert, which takes seconds to train."""
    monkeypatch.setattr(module, "expert_features", lambda config, train, images: images.flatten(1))


def test_all_classes_are_shown_and_axes_are_those_of_the_real_images(
    config: RunConfig, data: PreparedData, pixels_as_features: None, monkeypatch
) -> None:
    monkeypatch.setattr(module, "POINTS", 10 * int(data.train.class_counts.max()))
    found = feature_map(config, data)
    real, own = np.array(found["real"]), np.array(found["set"])
    assert np.bincount(real[:, 0].astype(int)).tolist() == data.train.class_counts.tolist()
    assert np.bincount(own[:, 0].astype(int)).tolist() == [config.distill.ipc] * 10
    pixels = data.normalisation.apply(torch.tensor(data.train.images)).flatten(1).double()
    variance = torch.linalg.eigvalsh(pixels.T.cov()).flip(0)
    assert found["explained"] == pytest.approx((variance[:2] / variance.sum()).tolist(), abs=1e-3)
    assert real[:, 1:].mean(0) == pytest.approx(0, abs=1e-3)
    assert real[:, 1:].var(0, ddof=1) == pytest.approx(variance[:2].numpy(), rel=1e-3)


def test_large_classes_are_thinned_out_equally(
    config: RunConfig, data: PreparedData, pixels_as_features: None, monkeypatch
) -> None:
    monkeypatch.setattr(module, "POINTS", 40)
    labels = np.array(feature_map(config, data)["real"])[:, 0].astype(int)
    assert np.bincount(labels).tolist() == np.minimum(data.train.class_counts, 4).tolist()
    assert feature_map(config, data) == feature_map(config, data)


def test_images_of_a_stored_set_are_shown_with_their_own_class(
    tiny: Callable[..., RunConfig], tmp_path: Path, data: PreparedData, pixels_as_features: None
) -> None:
    """Soft labels may prefer another class, for example the largest one for every image."""
    config = tiny(tmp_path, evaluate={"networks": 1, "epochs": 1, "sets": ["distilled"]})
    classes = torch.arange(10).repeat_interleave(2)
    DistilledSet(
        images=torch.randn(20, *data.train.image_shape),
        soft_labels=torch.tensor([0.91] + [0.01] * 9).repeat(20, 1),
        classes=classes,
        learning_rate=0.03,
        normalisation=data.normalisation,
        class_names=data.train.class_names,
        augmentation="",
    ).save(config.folder / "distilled")
    assert [k for k, *_ in feature_map(config, data)["set"]] == classes.tolist()


def test_there_is_no_map_without_an_expert(config: RunConfig, data: PreparedData) -> None:
    """The store of this run was never written."""
    assert feature_map(config, data) == {}


def test_there_is_no_map_of_all_images_nor_of_equal_features(
    tiny: Callable[..., RunConfig],
    tmp_path: Path,
    config: RunConfig,
    data: PreparedData,
    monkeypatch,
) -> None:
    everything = tiny(tmp_path, evaluate={"networks": 1, "epochs": 1, "sets": ["full_ce"]})
    assert feature_map(everything, data) == {}
    monkeypatch.setattr(module, "expert_features", lambda *given: torch.ones(len(given[2]), 5))
    assert feature_map(config, data) == {}


def test_a_map_belongs_to_one_evaluation(
    config: RunConfig, data: PreparedData, pixels_as_features: None, monkeypatch
) -> None:
    folder = Path(config.output)
    (folder / "evaluation").mkdir()
    write_feature_map(config, data, folder, "one")
    assert read_feature_map(folder, "one")["set"] and read_feature_map(folder, "two") == {}

    def no_store(*given: object) -> None:
        raise UserError("there is no store")

    monkeypatch.setattr(module, "expert_features", no_store)
    write_feature_map(config, data, folder, "one")
    assert read_feature_map(folder, "one")["set"], "a current map was made anew"
    write_feature_map(config, data, folder, "two")
    assert not (folder / module.FILE).exists()
