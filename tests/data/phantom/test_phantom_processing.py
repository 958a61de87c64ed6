import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from kneefair_jax.data.phantom import processing

SPACING = jnp.array([0.5, 0.5])
clahe, multiscale, sharpen = map(jax.jit, (processing.clahe, processing.multiscale, processing.sharpen))


def picture(side):
    white = np.random.default_rng(0).normal(size=(side, side))
    field = gaussian_filter(white, 6) + 0.2 * gaussian_filter(white, 1)
    return np.clip(0.4 + 0.15 * field / field.std(), 0, 1).astype(np.float32)


@pytest.mark.parametrize(("clip", "tiles"), [(1.5, 8), (4.0, 8), (3.0, 4), (40.0, 2)])
def test_clahe_is_that_of_opencv(clip, tiles):
    grey = picture(256)
    expected = cv2.createCLAHE(clip, (tiles, tiles)).apply(np.round(255 * grey).astype(np.uint8)) / 255
    result = clahe(jnp.asarray(grey), clip, tiles + 0.5)
    # 64 bins stand for OpenCV's 256.
    assert np.abs(result - expected).mean() < 0.01
    assert np.abs(expected - grey).mean() > 0.04


def test_clahe_of_other_shapes_and_off():
    grey = jnp.asarray(picture(64))[:50]
    clahe = jax.jit(jax.vmap(processing.clahe))
    plain, equalized = clahe(jnp.stack([grey] * 2), jnp.array([0.5, 3.0]), jnp.array([3.0, 7.9]))
    np.testing.assert_array_equal(plain, grey)
    assert equalized.min() >= 0 and equalized.max() <= 1 and equalized.std() > 1.2 * grey.std()


def test_sharpening_is_unsharp_masking():
    grey = picture(60)
    expected = grey + 1.5 * (grey - gaussian_filter(grey, 3, truncate=8))  # 1.5 mm in pixels of 0.5 mm
    interior = slice(20, 40)  # far from the borders, where the libraries differ
    result = sharpen(jnp.asarray(grey), 1.5, 1.5, SPACING)
    np.testing.assert_allclose(
        result[interior, interior], np.clip(expected, 0, 1)[interior, interior], atol=1e-3
    )
    np.testing.assert_array_equal(sharpen(jnp.asarray(grey), -0.5, 1.5, SPACING), grey)


def test_flat_exposure_keeps_the_share_of_the_base():
    flat = jnp.full((40, 40), 0.8, jnp.float32)
    np.testing.assert_allclose(multiscale(flat, 0.5, 0.4, SPACING), 0.8 * 0.7, rtol=1e-5)


@pytest.mark.parametrize("strength", [-0.3, 0.0])
def test_without_strength_the_signal_stays(strength):
    signal = jnp.asarray(picture(40))
    np.testing.assert_allclose(multiscale(signal, strength, 0.2, SPACING), signal, atol=1e-6)


@pytest.mark.parametrize("period_mm", [2.0, 8.0, 20.0])
def test_faint_waves_gain_as_the_transfer_functions_say(period_mm):
    """Of Gaussians: exp(-2 (pi sigma / period)^2); gains 1.5 of the finest band, 4 of the others, 0.3 of the base."""
    x = np.arange(256) * 0.5
    wave = np.sin(2 * np.pi * x / period_mm)[None, :] * np.ones((256, 1))
    result = multiscale(jnp.asarray(1e-4 * wave, jnp.float32), 1.0, 0.3, SPACING)
    passed = [1.0, *(np.exp(-2 * (np.pi * s / period_mm) ** 2) for s in processing.SCALES_MM)]
    gain = (
        sum(g * (a - b) for g, a, b in zip((1.5, 4, 4, 4, 4), passed, passed[1:], strict=False))
        + 0.3 * passed[-1]
    )
    middle = slice(100, 156)  # far from the borders
    amplitude = 1e4 * np.sqrt(2) * np.std(np.asarray(result)[128, middle])
    input_amplitude = np.sqrt(2) * np.std(wave[128, middle])
    assert amplitude / input_amplitude == pytest.approx(gain, rel=0.02)
    strong = multiscale(jnp.asarray(wave, jnp.float32), 1.0, 0.3, SPACING)
    assert np.std(np.asarray(strong)[128, middle]) < 0.75 * gain * np.std(wave[128, middle])
