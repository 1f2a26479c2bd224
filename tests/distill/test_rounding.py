"""Images of 8 bits: what rounding does to values, to gradients, and to the set of each engine."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import parse_config
from ltdd_ray.config.nested import merge
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.distill.distribution.loop import ENGINES, match_distributions
from ltdd_ray.distill.formation import decode
from ltdd_ray.distill.rounding import round_images
from ltdd_ray.distill.trajectory.loop import distill
from ltdd_ray.distill.trajectory.synthetic import SyntheticSet
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.export.layouts import write_npz

Tiny = Callable[..., RunConfig]
Trained = Callable[[str], tuple[RunConfig, PreparedData]]
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (40, 3, 4, 4), dtype=np.uint8)


@pytest.fixture(params=["standard", "zca", "zca_raw"])
def normalisation(request: pytest.FixtureRequest) -> Normalisation:
    return Normalisation.fit(PIXELS, request.param)


def test_values_are_the_nearest_pixels(normalisation: Normalisation) -> None:
    whole = torch.tensor(PIXELS[:6]).float()
    whole[0, 0, 0, :2] = torch.tensor([0.0, 255.0])
    near = whole + 0.8 * (torch.rand(whole.shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    near[0, 0, 0, :2] = torch.tensor([-40.0, 300.0])  # clipped
    found = round_images(normalisation.apply(near), normalisation)
    assert torch.equal(found, normalisation.apply(whole))
    assert torch.equal(found, round_images(found, normalisation))


def test_the_gradient_passes_straight_through(normalisation: Normalisation) -> None:
    """Also for values outside 0..255, which are clipped."""
    images = normalisation.apply(torch.tensor(PIXELS[:6]).float() * 1.3 - 20).requires_grad_()
    given = torch.rand(images.shape, generator=torch.Generator().manual_seed(2))
    (round_images(images, normalisation) * given).sum().backward()
    assert images.grad is not None and torch.equal(images.grad, given)


def test_mosaics_are_rounded_before_they_are_decoded() -> None:
    normalisation = Normalisation.fit(PIXELS, "standard")
    images = normalisation.apply(torch.rand(2, 3, 4, 4) * 255)
    labels, classes = torch.zeros(8, 2), torch.arange(2).repeat_interleave(4)
    exact = SyntheticSet(images.clone(), labels, classes, 0.1, 2)
    rounded = SyntheticSet(images.clone(), labels, classes, 0.1, 2, rounded_by=normalisation)
    assert torch.equal(rounded.pictures(), decode(round_images(images, normalisation), 2))
    given = torch.rand(8, 3, 4, 4)
    for one in (exact, rounded):
        (one.pictures() * given).sum().backward()
    assert exact.images.grad is not None and rounded.images.grad is not None
    assert torch.equal(exact.images.grad, rounded.images.grad)


@pytest.fixture(scope="module")
def trained(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """``trained(norm)``: a config with experts of this norm, and its data."""

    @cache
    def train(norm: str) -> tuple[RunConfig, PreparedData]:
        config = tiny(tmp_path_factory.mktemp("bits"))
        if norm == "batch":
            of_rldd = {"experts": {"norm": norm}, "distill": {"engine": "rldd"}}
            config = parse_config(merge(config.model_dump(mode="json"), of_rldd), norm)
        data = prepare_data(config)
        for expert in range(config.experts.count):
            run_expert(config, data, expert, lambda report: None)
        return config, data

    return train


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("engine", ["matching", *ENGINES])
def test_an_export_of_8_bits_is_the_stored_set(
    trained: Trained, engine: str, side: int, tmp_path: Path
) -> None:
    config, data = trained("batch" if engine == "rldd" else "instance")
    changes = {
        "engine": engine,
        "pictures_per_side": side,
        "bits": 8,
        "updates": 2,
        "lr_image": 1e4,
        "distribution": {"updates": 2, "real_batch": 4, "lr_image": 0.3, "snapshots": {"max": 3}},
    }
    tree = merge(config.model_dump(mode="json"), {"distill": changes})
    initial: list[DistilledSet] = []
    run = distill if engine == "matching" else match_distributions
    found = run(
        parse_config(tree, "bits"),
        data,
        on_update=lambda report, synthetic: None,
        on_checkpoint=lambda write, update: None,
        on_initial=lambda start, said: initial.append(start),
    )
    assert not torch.equal(found.images, initial[0].images), "nothing was learned"
    assert torch.equal(found.images, found.in_8_bits().images)
    assert found.provenance["bits"] == 8
    write_npz(found, tmp_path)
    with np.load(tmp_path / "distilled.npz") as arrays:
        pixels = torch.tensor(arrays["train_images"])[:, None]
    if side == 1:
        assert torch.equal(data.normalisation.apply(pixels), found.images)
    assert torch.equal(pixels, found.pixels())


def test_by_default_images_are_exact(trained: Trained) -> None:
    config, data = trained("instance")
    found = distill(
        config,
        data,
        on_update=lambda report, synthetic: None,
        on_checkpoint=lambda write, update: None,
        on_initial=lambda start, said: None,
    )
    assert (
        not torch.equal(found.images, found.in_8_bits().images) and "bits" not in found.provenance
    )
