"""The distilled set as a file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import interpolate

import ltdd_ray
from ltdd_ray.common.errors import UserError
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.formation import decode


@pytest.fixture(params=["standard", "zca", "zca_raw"])
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
        class_counts=(20, 8, 2),
        provenance={"update": 7},
    )


def test_survives_the_file(distilled: DistilledSet, tmp_path: Path) -> None:
    file = distilled.save(tmp_path / "distilled")
    for place in (tmp_path, tmp_path / "distilled", file):
        found = ltdd_ray.load_distilled(str(place))
        assert torch.equal(found.images, distilled.images) and torch.equal(
            found.soft_labels, distilled.soft_labels
        )
        assert torch.equal(found.classes, distilled.classes)
        assert (found.learning_rate, found.class_names, found.augmentation) == (
            0.03,
            ("cat", "dog", "owl"),
            "flip_crop",
        )
        assert found.provenance == {"update": 7} and found.class_counts == (20, 8, 2)
        torch.testing.assert_close(found.denormalize(), distilled.denormalize())


def test_is_a_dataset_and_denormalises_to_pixels(distilled: DistilledSet) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)[:6]
    assert len(distilled) == 6
    image, soft_label = distilled[2]
    assert torch.equal(image, distilled.images[2]) and soft_label.shape == (3,)
    torch.testing.assert_close(
        distilled.denormalize(), torch.tensor(pixels) / 255, rtol=0, atol=1e-4
    )


def test_a_missing_or_cut_file_is_named_with_the_remedy(
    distilled: DistilledSet, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no distilled.safetensors in it; run `ltdd-ray distill"):
        ltdd_ray.load_distilled(str(tmp_path))
    file = distilled.save(tmp_path)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match="not a readable distilled set"):
        ltdd_ray.load_distilled(str(tmp_path))
    with pytest.raises(UserError, match="nothing: does not exist; give the folder of a run"):
        ltdd_ray.load_distilled(tmp_path / "nothing")


@pytest.mark.parametrize("metadata", [None, {"ltdd_ray": "{}"}, {"ltdd_ray": '{"format": 1}'}])
def test_another_safetensors_file_is_refused_in_one_sentence(
    metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors", metadata)
    with pytest.raises(UserError, match=r"not a readable distilled set .*distil again") as error:
        ltdd_ray.load_distilled(tmp_path / "model.safetensors")
    assert "\n" not in str(error.value)


def test_a_format_of_the_future_is_refused(tmp_path: Path) -> None:
    save_file(
        {"images": torch.zeros(2)}, tmp_path / "new.safetensors", {"ltdd_ray": '{"format": 99}'}
    )
    with pytest.raises(UserError, match=r"format 99; this version reads \(1, 2\)"):
        ltdd_ray.load_distilled(tmp_path / "new.safetensors")


def test_8_bits_cost_half_a_grey_level_and_what_lies_outside(distilled: DistilledSet) -> None:
    assert distilled.clipped_share() == 0
    torch.testing.assert_close(distilled.in_8_bits().images, distilled.images, rtol=0, atol=1e-3)
    assert distilled.pixels().dtype == torch.uint8

    outside = distilled.normalisation.invert(distilled.images)
    outside[0, 0, 0, :4] = torch.tensor([-0.5, 1.2, 0.5004, 1.0])
    far = replace(distilled, images=distilled.normalisation.apply(outside * 255))
    assert far.pixels()[0, 0, 0, :4].tolist() == [0, 255, 128, 255]
    assert far.clipped_share() == pytest.approx(2 / far.images.numel())
    torch.testing.assert_close(
        far.in_8_bits().denormalize() * 255, far.pixels().float(), rtol=0, atol=0.02
    )


def test_mosaics_are_stored_and_pictures_are_given(distilled: DistilledSet, tmp_path: Path) -> None:
    mosaics = replace(
        distilled,
        soft_labels=torch.rand(24, 3, generator=torch.Generator().manual_seed(1)).softmax(1),
        classes=torch.arange(3).repeat_interleave(8),
        pictures_per_side=2,
    )
    found = DistilledSet.load(mosaics.save(tmp_path))
    assert torch.equal(found.images, distilled.images) and found.pictures_per_side == 2
    assert len(found) == 24 and found.pictures.shape == (24, 3, 8, 8)
    picture, soft_label = found[5]  # the second picture of the second mosaic
    corner = found.images[1:2, :, :4, 4:]
    torch.testing.assert_close(picture[None], interpolate(corner, size=(8, 8), mode="bilinear"))
    assert torch.equal(soft_label, mosaics.soft_labels[5])
    assert found.denormalize().shape == (24, 3, 8, 8)


def test_mosaics_are_rounded_before_they_are_decoded(distilled: DistilledSet) -> None:
    mosaics = replace(
        distilled,
        images=distilled.images + 0.003,
        soft_labels=distilled.soft_labels.repeat_interleave(4, 0),
        classes=distilled.classes.repeat_interleave(4),
        pictures_per_side=2,
    )
    stored = (mosaics.denormalize(mosaics.images) * 255).round()
    expected = decode(distilled.normalisation.apply(stored), 2)
    torch.testing.assert_close(mosaics.in_8_bits().pictures, expected)
    pixels = distilled.normalisation.invert(expected).clamp(0, 1) * 255
    assert torch.equal(mosaics.pixels(), pixels.round().to(torch.uint8))


def test_a_set_of_the_first_format_still_loads(distilled: DistilledSet, tmp_path: Path) -> None:
    file = distilled.save(tmp_path)
    with safe_open(file, framework="pt") as stored:
        described = json.loads(stored.metadata()["ltdd_ray"])
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - no mapping
    del described["pictures_per_side"]
    save_file(tensors, file, {"ltdd_ray": json.dumps({**described, "format": 1})})
    found = DistilledSet.load(file)
    assert found.pictures_per_side == 1 and torch.equal(found.pictures, distilled.images)
