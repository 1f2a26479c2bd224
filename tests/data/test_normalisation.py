import numpy as np
import pytest
import torch
from kornia.enhance import ZCAWhitening
from safetensors.torch import load, save

from ltdd_ray.common.errors import UserError
from ltdd_ray.data import normalisation as module
from ltdd_ray.data.normalisation import ZCA_EPS, Normalisation, fit_cost

torch.set_num_threads(1)


def _images(n: int = 600, shape: tuple[int, int, int] = (3, 6, 5)) -> np.ndarray:
    """Correlated across pixels, channels of different mean and spread."""
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(n, 1, 1, 1)) + 0.5 * rng.normal(size=(n, *shape))
    scale = np.array([20.0, 30.0, 40.0])[: shape[0], None, None]
    images = np.clip(100 + scale * (smooth + np.arange(shape[0])[:, None, None]), 0, 255).astype(
        np.uint8
    )
    images.flags.writeable = False  # as arrays from Ray's object store are
    return images


def test_standard_channels_have_mean_0_and_std_1():
    images = _images()
    x = Normalisation.fit(images, "standard").apply(torch.tensor(images))
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_zca_whitens_the_covariance():
    images = _images()
    standard = Normalisation.fit(images, "standard").apply(torch.tensor(images)).flatten(1).double()
    spectrum, basis = torch.linalg.eigh(standard.T.cov())
    white = Normalisation.fit(images, "zca").apply(torch.tensor(images)).flatten(1).double()
    expected = basis @ torch.diag(spectrum / (spectrum + ZCA_EPS)) @ basis.T
    torch.testing.assert_close(
        white.mean(0), torch.zeros(90, dtype=torch.float64), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(white.T.cov(), expected, atol=1e-4, rtol=0)


def test_zca_raw_is_kornias_whitening_of_pixels():
    """The published code whitens with kornia."""
    images = _images()
    pixels = torch.tensor(images) / 255
    published = ZCAWhitening(eps=ZCA_EPS, compute_inv=True).fit(pixels)
    ours = Normalisation.fit(images, "zca_raw")
    assert ours.kind == "zca_raw"
    torch.testing.assert_close(
        ours.apply(torch.tensor(images)), published(pixels), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(ours.invert(published(pixels)), pixels, atol=1e-4, rtol=0)
    assert not torch.allclose(
        Normalisation.fit(images, "zca").apply(torch.tensor(images)), published(pixels), atol=0.1
    )


@pytest.mark.parametrize("kind", ["standard", "zca", "zca_raw"])
@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 8, 8)])
def test_round_trip(kind, shape):
    images = _images(shape=shape)
    normalisation = Normalisation.fit(images, kind)
    pixels = torch.randint(
        0, 256, (50, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    back = normalisation.invert(normalisation.apply(pixels))
    torch.testing.assert_close(back, pixels / 255, atol=1e-4, rtol=0)
    torch.testing.assert_close(normalisation.apply(pixels.float()), normalisation.apply(pixels))


def test_zca_with_fewer_images_than_dimensions():
    images = _images(n=20)
    normalisation = Normalisation.fit(images, "zca")
    back = normalisation.invert(normalisation.apply(torch.tensor(images)))
    torch.testing.assert_close(back, torch.tensor(images) / 255, atol=1e-4, rtol=0)


def test_constant_channel_stays_finite():
    images = np.full((4, 1, 2, 2), 7, np.uint8)
    x = Normalisation.fit(images, "standard").apply(torch.tensor(images))
    torch.testing.assert_close(x, torch.zeros(4, 1, 2, 2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["standard", "zca", "zca_raw"])
def test_state_survives_safetensors(kind):
    images = _images()
    normalisation = Normalisation.fit(images, kind)
    restored = Normalisation.from_state(load(save(normalisation.to("cpu").state())))
    pixels = torch.tensor(images)
    assert torch.equal(restored.apply(pixels), normalisation.apply(pixels))
    assert torch.equal(restored.invert(pixels.float()), normalisation.invert(pixels.float()))


def test_foreign_state_is_refused():
    with pytest.raises(UserError, match="centre"):
        Normalisation.from_state(
            {"mean": torch.zeros(1), "std": torch.ones(1), "centre": torch.zeros(1)}
        )


def test_too_large_for_zca():
    with pytest.raises(UserError, match=r"27648 x 27648 .*normalisation: standard"):
        Normalisation.fit(np.zeros((2, 3, 96, 96), np.uint8), "zca")


def test_a_large_fit_is_announced_with_its_cost(monkeypatch):
    monkeypatch.setattr(module, "_LARGE_DIM", 90)
    monkeypatch.setattr(module, "fit_cost", lambda dim, count: (200.0, 2**30 * dim))
    said: list[str] = []
    Normalisation.fit(_images(), "zca_raw", said.append)
    Normalisation.fit(_images(), "standard", said.append)
    Normalisation.fit(_images(shape=(1, 8, 8)), "zca", said.append)
    (sentence,) = said
    assert "whitening images of 90 values takes about 3 min 20 s and 90.0 GiB of memory" in sentence


def test_the_cost_of_a_fit_grows_with_the_cube_and_the_square():
    seconds, needed = fit_cost(12_288, 0)
    assert needed == 5 * 8 * 12_288**2
    assert 8 * fit_cost(3072, 0)[0] < seconds < 512 * fit_cost(3072, 0)[0]


def test_the_cost_of_a_fit_grows_with_the_images():
    """At ten million images the outer products take hundreds of times what D^3 does."""
    assert fit_cost(12_288, 10_000_000)[0] > 10 * fit_cost(12_288, 1000)[0]
