from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch

from ltdd_ray.config import EvaluateConfig, RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.evaluate.calibration import confidence_spread
from ltdd_ray.evaluate.sets import SETS, training_set

CLASSES = torch.arange(10).repeat_interleave(2)


@pytest.fixture
def config(tiny: Callable[..., RunConfig], tmp_path: Path) -> RunConfig:
    return tiny(tmp_path)


@pytest.fixture
def data(config: RunConfig) -> PreparedData:
    return prepare_data(config)


@pytest.fixture
def stored(config: RunConfig, data: PreparedData) -> DistilledSet:
    """A set whose labels favour frequent classes, saved where a run leaves it."""
    draw = torch.Generator().manual_seed(0)
    logits = (
        torch.randn(20, 10, generator=draw)
        + 4 * torch.eye(10)[CLASSES]
        + torch.tensor(data.train.prior).log()
    )
    made = DistilledSet(
        images=torch.randn(20, *data.train.image_shape, generator=draw),
        soft_labels=logits.float().softmax(-1),
        classes=CLASSES,
        learning_rate=0.03,
        normalisation=data.normalisation,
        class_names=data.train.class_names,
        augmentation="",
    )
    made.save(config.folder / "distilled")
    return made


def test_every_name_of_the_config_is_a_set() -> None:
    names = get_args(get_args(EvaluateConfig.model_fields["sets"].annotation)[0])
    assert set(names) == set(SETS)


@pytest.mark.parametrize("name", ["distilled", "distilled_hard", "distilled_calibrated"])
def test_sets_made_of_the_distilled_one_differ_in_labels_alone(
    config: RunConfig, data: PreparedData, stored: DistilledSet, name: str
) -> None:
    given = training_set(config, data, name, network=0)
    assert torch.equal(given.images, stored.images) and given.learning_rate == stored.learning_rate
    assert torch.equal(given.soft_labels, stored.soft_labels) == (name == "distilled")
    torch.testing.assert_close(given.soft_labels.sum(1), torch.ones(20))


@pytest.mark.parametrize(
    ("engine", "key"),
    [("matching", "distill.syn_lr or distill.lr_syn_lr"), ("dm", "evaluate.lr")],
)
def test_the_rate_of_a_stored_set_is_lowered_where_it_was_made(
    config: RunConfig, data: PreparedData, stored: DistilledSet, engine: str, key: str
) -> None:
    distill = config.distill.model_copy(update={"engine": engine})
    config = config.model_copy(update={"distill": distill})
    for name in ("distilled", "distilled_calibrated", "distilled_8bit"):
        given = training_set(config, data, name, network=0)
        assert f"lower {key} and distil again" in given.lower_rate
    assert training_set(config, data, "random", network=0).lower_rate == "lower evaluate.lr"


def test_hard_labels_are_the_class_a_soft_label_prefers(
    config: RunConfig, data: PreparedData, stored: DistilledSet
) -> None:
    labels = training_set(config, data, "distilled_hard", network=0).soft_labels
    assert torch.equal(labels, torch.eye(10)[stored.soft_labels.argmax(-1)])
    assert not torch.equal(labels.argmax(-1), CLASSES), (
        "the favoured classes must win somewhere, or the test shows nothing"
    )


def test_calibration_makes_classes_equally_confident(
    config: RunConfig, data: PreparedData, stored: DistilledSet
) -> None:
    given = training_set(config, data, "distilled_calibrated", network=0)
    assert given.tau is not None and 0.3 < given.tau < 2
    assert confidence_spread(given.soft_labels, CLASSES) < 0.8 * confidence_spread(
        stored.soft_labels, CLASSES
    )
    assert training_set(config, data, "distilled", network=0).tau is None


def test_real_images_become_pictures_too(config: RunConfig, data: PreparedData) -> None:
    """At equal bytes: four times the images, as blurred as the pictures of a mosaic."""
    mosaics = config.model_copy(
        update={"distill": config.distill.model_copy(update={"pictures_per_side": 2})}
    )
    given = training_set(mosaics, data, "random", network=0)
    assert len(given.images) == 4 * len(training_set(config, data, "random", network=0).images)
    real = data.normalisation.apply(torch.tensor(data.train.images))
    shrunk = torch.nn.functional.avg_pool2d(real, 2)
    seen = torch.nn.functional.interpolate(shrunk, size=(8, 8), mode="bilinear")
    nearest = torch.cdist(given.images.flatten(1), seen.flatten(1)).argmin(1)
    torch.testing.assert_close(given.images, seen[nearest])
    assert torch.equal(torch.tensor(data.train.labels)[nearest], given.soft_labels.argmax(1))
