"""The distilled set as a file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import interpolate

import ltdd_ray
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.data.sources import load_source
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.formation import decode
from ltdd_ray.distill.validity import checksum


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


def test_reads_new_images_as_the_run_read_its_own(
    make_set: Callable[..., DistilledSet], tmp_path: Path
) -> None:
    """A phone's photo that lies on its side, a transparent drawing and a grey one."""
    draw = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    files = [tmp_path / name / "1.png" for name in ("drawing", "grey", "photo")]
    for file, shape in zip(files, [(30, 20, 4), (12, 16), (40, 24, 3)]):
        file.parent.mkdir()
        Image.fromarray(draw.integers(0, 256, shape, np.uint8)).save(file, exif=turned)
    config = DataConfig(source="imagefolder", path=str(tmp_path), image_size=8, test_fraction=0.5)
    wanted, _ = load_source(config)
    colour = make_set(size=(8, 8))
    found = colour.read(files[0], *map(str, files[1:]))
    assert found.dtype == torch.uint8 and np.array_equal(found.numpy(), wanted.images)
    grey = make_set(channels=1, size=(9, 8)).read(files[1])
    assert grey.shape == (1, 1, 9, 8) and grey.float().std() > 0
    with pytest.raises(UserError, match=r"none.jpg cannot be read: no such file"):
        colour.read(tmp_path / "none.jpg")


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
    with pytest.raises(UserError, match=r"not a readable distilled set .*delete it") as error:
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
    del described["pictures_per_side"], described["checksum"]
    save_file(tensors, file, {"ltdd_ray": json.dumps({**described, "format": 1})})
    found = DistilledSet.load(file)
    assert found.pictures_per_side == 1 and torch.equal(found.pictures, distilled.images)


def _tamper(file: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change the content of a set's file, and make its checksum right again."""
    with safe_open(file, framework="pt") as stored:
        described = json.loads(stored.metadata()["ltdd_ray"])
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - no mapping
    change(tensors, described)
    described["checksum"] = checksum(tensors, described)
    save_file(tensors, file, {"ltdd_ray": json.dumps(described)})


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "NaN image": (lambda t, d: t["images"][0, 0, 0, 0].fill_(float("nan")), "images has values"),
    "infinite label": (lambda t, d: t["soft_labels"][0, 0].fill_(float("inf")), "not finite"),
    "fewer images": (lambda t, d: t.update(images=t["images"][:-1].clone()), r"\(5, 3\)"),
    "flat images": (lambda t, d: t.update(images=t["images"].flatten()), "M, K, H, W"),
    "half images": (lambda t, d: t.update(images=t["images"].half()), "float16"),
    "no images": (lambda t, d: t.update(images=t["images"][:0].clone()), "M, K, H, W"),
    "a column less": (lambda t, d: t.update(soft_labels=t["soft_labels"][:, :2].clone()), "6, 2"),
    "fewer classes": (lambda t, d: t.update(classes=t["classes"][:-1].clone()), "classes are"),
    "class -1": (lambda t, d: t["classes"][0].fill_(-1), r"class number -1 is not in 0\.\.2"),
    "class C": (lambda t, d: t["classes"][0].fill_(3), r"class number 3 is not in 0\.\.2"),
    "labels of 2": (lambda t, d: t["soft_labels"].mul_(0.5), "sums to 0.5, not to 1"),
    "a negative label": (
        lambda t, d: t["soft_labels"][0].copy_(torch.tensor([-0.5, 0.5, 1])),
        "outside",
    ),
    "deviation 0": (lambda t, d: t["normalisation.std"].fill_(0), "deviation"),
    "a deviation too many": (
        lambda t, d: t.update({"normalisation.std": torch.ones(4, 1, 1)}),
        "normalisation's std",
    ),
    "a name less": (lambda t, d: d["class_names"].pop(), "2 classes"),
    "a count less": (lambda t, d: d["class_counts"].pop(), "2 class counts for 3 classes"),
    "rate 0": (lambda t, d: d.update(learning_rate=0), "learning rate is 0"),
    "rate text": (lambda t, d: d.update(learning_rate="a"), "learning rate is 'a'"),
    "f 0": (lambda t, d: d.update(pictures_per_side=0), "pictures_per_side is 0"),
    "f 100": (lambda t, d: d.update(pictures_per_side=100), "pictures_per_side is 100"),
    "no provenance": (lambda t, d: d.pop("provenance"), "no 'provenance' in it"),
    "names that are a number": (lambda t, d: d.update(class_names=3), "class_names is no list"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_set_that_contradicts_itself_is_refused(
    kind: str, distilled: DistilledSet, tmp_path: Path
) -> None:
    change, reason = CHANGES[kind]
    file = distilled.save(tmp_path)
    _tamper(file, lambda tensors, described: None)
    DistilledSet.load(file)
    _tamper(file, change)
    with pytest.raises(UserError, match=reason) as error:
        DistilledSet.load(file)
    assert str(error.value).startswith(f"{file}: not a readable distilled set (")


def test_every_flipped_bit_is_found(make_set: Callable[..., DistilledSet], tmp_path: Path) -> None:
    file = make_set(size=(4, 4)).save(tmp_path)
    sound = file.read_bytes()
    draw = np.random.default_rng(0)
    for position in [*range(0, 1200, 7), *draw.integers(len(sound), size=200)]:
        altered = bytearray(sound)
        altered[position] ^= 1 << int(draw.integers(8))
        file.write_bytes(altered)
        try:
            found = DistilledSet.load(file)
        except UserError:
            continue
        raise AssertionError(f"byte {position} of {len(sound)} was altered unseen: {found}")


def test_the_second_format_needs_its_checksum(distilled: DistilledSet, tmp_path: Path) -> None:
    file = distilled.save(tmp_path)
    with safe_open(file, framework="pt") as stored:
        described = json.loads(stored.metadata()["ltdd_ray"])
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - no mapping
    del described["checksum"]
    save_file(tensors, file, {"ltdd_ray": json.dumps(described)})
    with pytest.raises(UserError, match="no checksum"):
        DistilledSet.load(file)
