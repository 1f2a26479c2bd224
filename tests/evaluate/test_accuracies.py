"""Balanced accuracy and accuracy over images, and classes that have no test images."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.evaluate.confusion import Confusion
from ltdd_ray.evaluate.results import results_table, summarise
from ltdd_ray.evaluate.train import NetworkResult, measure

# Six images of class 0, two of class 1, none of class 2; class 3 has one.
LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 3])
PREDICTED = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 0])


class Fixed(nn.Module):
    """Predicts the class that is written in the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(images[:, 0, 0, 0].long(), 4).float()


def test_both_accuracies_by_hand() -> None:
    found = measure(Fixed(), PREDICTED.float()[:, None, None, None], LABELS)
    assert found.accuracy == pytest.approx((5 / 6 + 1 / 2 + 0) / 3)
    assert found.accuracy_over_images == pytest.approx(6 / 9)
    assert found.per_class[:2] == pytest.approx((5 / 6, 1 / 2)) and found.per_class[3] == 0
    assert math.isnan(found.per_class[2]) and math.isnan(found.confidence[2])
    assert found.confusion == ((0, 0, 5), (0, 1, 1), (1, 1, 1), (1, 2, 1), (3, 0, 1))


def of_network(
    network: int, missing: tuple[int, ...], confusion: Confusion | None = None
) -> NetworkResult:
    per_class = tuple(
        math.nan if k in missing else share + 0.1 * network
        for k, share in enumerate((0.8, 0.6, 0.4, 0.2))
    )
    measured = [share for share in per_class if not math.isnan(share)]
    return NetworkResult(
        accuracy=sum(measured) / len(measured),
        accuracy_over_images=0.7 + 0.1 * network,
        per_class=per_class,
        confidence=per_class,
        true_confidence=per_class,
        confusion=confusion,
        set_name="random",
        model="convnet3-w128-instance",
        network=network,
        images=8,
        labels="hard",
        classifier_norms=(1.0, 1.0, 1.0, 1.0),
        tau=None,
        seconds=1.0,
    )


def results_of(networks: list[NetworkResult]) -> dict:
    config = RunConfig.model_validate(
        {
            "name": "r",
            "data": {"source": "digits"},
            "distill": {"ipc": 1},
            "evaluate": {"sets": ["random"], "networks": len(networks)},
        }
    )
    labels = np.repeat(np.arange(4), [9, 6, 4, 2])
    images = np.zeros((len(labels), 1, 8, 8), np.uint8)
    train = LongTailedDataset(images, labels, ("ant", "bee", "cat", "dog"))
    return summarise(config, train, networks, {})


def test_results_name_both_accuracies() -> None:
    found = results_of([of_network(0, ()), of_network(1, ())])
    assert found["accuracy"]["mean"] == pytest.approx(0.55)
    assert found["accuracy_over_images"]["mean"] == pytest.approx(0.75)
    assert found["accuracy_over_images"]["runs"] == pytest.approx([0.7, 0.8])
    assert found["measures"]["accuracy"].startswith("balanced accuracy: the mean over classes")
    assert found["measures"]["accuracy_over_images"].startswith("share of all test images")
    assert found["unmeasured_classes"] == []
    cells = [next(iter(column.cells)) for column in results_table(found).columns]
    assert cells[2] == "55.0 ± 7.1" and cells[-3] == "75.0"
    # 8 images of 64 bytes and a label of one byte each: 520 bytes, 55 / 0.52 = 106.
    assert found["bytes"] == 520 and cells[-2:] == ["0.5", "106"]


@pytest.mark.parametrize(
    ("missing", "accuracy", "groups"),
    [
        ((1,), (0.8 + 0.4 + 0.2) / 3, {"many": 0.8, "medium": 0.4, "few": 0.2}),
        ((3,), (0.8 + 0.6 + 0.4) / 3, {"many": 0.8, "medium": 0.5}),
    ],
)
def test_a_class_without_test_images_is_left_out(missing, accuracy, groups) -> None:
    found = results_of([of_network(0, missing)])
    assert found["accuracy"]["mean"] == pytest.approx(accuracy)
    assert {name: one["mean"] for name, one in found["groups"].items()} == pytest.approx(groups)
    assert found["groups"].keys() == found["confidence"]["true_class"].keys()
    assert found["per_class"]["mean"][missing[0]] is None
    name = ("ant", "bee", "cat", "dog")[missing[0]]
    assert found["unmeasured_classes"] == [name]
    caption = str(results_table(found).caption)
    assert caption == f"not measured, as they have no test images: {name}"
    json.dumps(found, allow_nan=False)


def test_confusions_are_averaged_over_networks() -> None:
    one, other = ((0, 0, 3), (0, 1, 1)), ((0, 0, 2), (1, 1, 1))
    found = results_of([of_network(0, (), one), of_network(1, (), other)])
    assert found["confusion"] == [(0, 0, 2.5), (0, 1, 0.5), (1, 1, 0.5)]
    partly = results_of([of_network(0, (), one), of_network(1, ())])
    assert "confusion" not in partly, "an older version measured one of the networks"


def test_a_result_of_a_version_without_confusions_is_read() -> None:
    old = of_network(0, ()).to_json()
    assert "confusion" not in old
    assert NetworkResult.from_json(json.loads(json.dumps(old))) == of_network(0, ())


@pytest.mark.parametrize("confusion", [None, ((0, 0, 3), (0, 1, 1))])
def test_a_result_without_a_class_survives_json(confusion: Confusion | None) -> None:
    once = of_network(0, (2,), confusion)
    text = json.dumps(once.to_json(), allow_nan=False)
    again = NetworkResult.from_json(json.loads(text))
    np.testing.assert_equal(asdict(again), asdict(once))
