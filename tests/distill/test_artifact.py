"""The distilled set as a file."""

from pathlib import Path

import numpy as np
import pytest
import torch

import ltdd_ray
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.errors import UserError


@pytest.fixture(params=["standard", "zca"])
def distilled(request: pytest.FixtureRequest) -> DistilledSet:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)
    normalisation = Normalisation.fit(pixels, request.param)
    return DistilledSet(
        images=normalisation.apply(torch.tensor(pixels[:6])),
        soft_labels=torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).softmax(1),
        classes=torch.tensor([0, 0, 1, 1, 2, 2]),
        learning_rate=0.03,
        normalisation=normalisation,
        class_names=("cat", "dog", "owl"),
        augmentation="flip_crop",
        provenance={"update": 7},
    )


def test_survives_the_file(distilled: DistilledSet, tmp_path: Path) -> None:
    file = distilled.save(tmp_path / "distilled")
    for place in (tmp_path, tmp_path / "distilled", file):
        found = ltdd_ray.load_distilled(str(place))
        assert torch.equal(found.images, distilled.images) and torch.equal(found.soft_labels, distilled.soft_labels)
        assert torch.equal(found.classes, distilled.classes)
        assert (found.learning_rate, found.class_names, found.augmentation) == (0.03, ("cat", "dog", "owl"), "flip_crop")
        assert found.provenance == {"update": 7}
        torch.testing.assert_close(found.denormalize(), distilled.denormalize())


def test_is_a_dataset_and_denormalises_to_pixels(distilled: DistilledSet) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)[:6]
    assert len(distilled) == 6
    image, soft_label = distilled[2]
    assert torch.equal(image, distilled.images[2]) and soft_label.shape == (3,)
    torch.testing.assert_close(distilled.denormalize(), torch.tensor(pixels) / 255, rtol=0, atol=1e-4)


def test_a_missing_or_cut_file_is_named_with_the_remedy(distilled: DistilledSet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no distilled.safetensors in it; run `ltdd-ray distill"):
        ltdd_ray.load_distilled(str(tmp_path))
    file = distilled.save(tmp_path)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match="not a readable distilled set"):
        ltdd_ray.load_distilled(str(tmp_path))
