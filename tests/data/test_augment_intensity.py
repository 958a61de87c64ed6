import jax
import numpy as np
import pytest
import scipy.ndimage

from kneefair_jax.data import augment
from kneefair_jax.data.augment import Augmentation

IMAGE = np.random.default_rng(0).uniform(size=(40, 48, 2)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 200)


def varied(**strength):
    """200 draws, f32[200, 40, 48, 2]."""
    return np.asarray(
        jax.vmap(lambda key: augment.vary_intensity(key, IMAGE, Augmentation(**strength)))(KEYS)
    )


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_blur_is_a_gaussian_filter(sigma):
    blurred = augment.blur(IMAGE, sigma)
    expected = scipy.ndimage.gaussian_filter(IMAGE.astype(float), (sigma, sigma, 0), truncate=8)
    interior = slice(15, -15)  # at the border SciPy reflects, and this normalises
    np.testing.assert_allclose(
        np.asarray(blurred)[interior, interior], expected[interior, interior], atol=1e-5
    )


def test_blur_of_nothing_and_of_one_grey():
    np.testing.assert_allclose(augment.blur(IMAGE, 0.0), IMAGE, atol=1e-6)
    np.testing.assert_allclose(augment.blur(np.full_like(IMAGE, 0.3), 5.0), 0.3, rtol=1e-5)


def test_blur_goes_up_to_its_strength():
    images = varied(blur=2.0)
    spread = images.std((1, 2, 3))
    assert spread.max() > 0.95 * IMAGE.std()
    assert spread.min() == pytest.approx(np.asarray(augment.blur(IMAGE, 2.0)).std(), rel=0.1)


def test_gamma_is_a_power_of_the_grey_values():
    images = varied(gamma=1.0)
    exponent = np.log(images[:, 3, 4, 0]) / np.log(IMAGE[3, 4, 0])
    np.testing.assert_allclose(images, IMAGE[None] ** exponent[:, None, None, None], rtol=1e-3, atol=1e-5)
    assert 0.5 <= exponent.min() < 0.55 and 1.9 < exponent.max() <= 2.0


def test_contrast_is_about_the_mean_and_stays_in_range():
    images = varied(contrast=0.5)
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_allclose(images.mean((1, 2, 3)), IMAGE.mean(), atol=0.01)
    ratio = images.std((1, 2, 3)) / IMAGE.std()
    assert 0.5 <= ratio.min() < 0.55 and 1.25 < ratio.max() <= 1.5


def test_noise_goes_up_to_its_strength():
    spread = (varied(noise=0.1) - IMAGE).std((1, 2, 3))
    assert spread.min() < 0.01 and 0.095 < spread.max() < 0.103


def test_inversion():
    invert = jax.vmap(lambda key: augment.invert(key, IMAGE, 0.3))
    images = np.asarray(invert(KEYS))
    inverted = np.isclose(images, 1 - IMAGE).all((1, 2, 3))
    np.testing.assert_array_equal(images[~inverted], np.broadcast_to(IMAGE, images[~inverted].shape))
    assert 0.2 < inverted.mean() < 0.4
