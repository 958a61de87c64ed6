import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from kneefair_jax.data.phantom import detector, ranges, render

SPACING = jnp.array([0.5, 0.5])
# A film that adds nothing: no scatter, no blur but the pixel's, no grid.
CLEAN = ranges.draw(jax.random.key(0), ranges.FILM, 0.0) | {
    "scatter": 0.0,
    "blur_mm": 0.01,
    "blur_pixels": 0.0,
    "log_photons": jnp.log(2500.0),
    "grid": -1.0,
    "level": -1.0,
    "latitude": 2.0,
    "auto": 0.0,
    "log_gamma": 0.0,
    "edge": -1.0,
    "field": 0.0,
    "slope_down": 0.0,
    "slope_across": 0.0,
}


def expose(rays, noise=1.0, **changes):
    return detector.expose(rays, jnp.float32(1.5), noise, CLEAN | changes, SPACING, jax.random.key(1))


def test_quantum_noise_has_the_stated_spread():
    signal = expose(jnp.full((200, 200), 1.5))
    # 2500 photons per mm2 on 0.25 mm2 are 625 counts, so 1/25 of them is noise.
    assert np.mean(signal) == pytest.approx(0, abs=1e-3)
    assert np.std(signal) == pytest.approx(1 / 25, rel=0.02)
    assert np.std(expose(jnp.full((200, 200), 1.5), noise=5.0)) == pytest.approx(1 / 5, rel=0.02)
    # Behind twice ln 2 more, a quarter of the photons and twice the noise.
    assert np.std(expose(jnp.full((200, 200), 1.5 + 2 * np.log(2)))) == pytest.approx(2 / 25, rel=0.02)


def test_scatter_is_added_to_what_arrives():
    rays = jnp.where(jnp.arange(200)[None, :] < 100, 1.5, 2.0) * jnp.ones((200, 1))
    signal = expose(rays, noise=0.0, scatter=0.7)
    # By another library: primary radiation, and the same spread by 18 mm, which are 36 pixels.
    primary = np.exp(1.5 - np.asarray(rays[100], float))
    spread = gaussian_filter1d(primary, 36, mode="constant", truncate=8)
    spread /= gaussian_filter1d(np.ones(200), 36, mode="constant", truncate=8)
    expected = -np.log((primary + 0.7 * spread) / 1.7)
    np.testing.assert_allclose(signal[100, :95], expected[:95], atol=5e-3)
    np.testing.assert_allclose(signal[100, 105:], expected[105:], atol=5e-3)
    assert expected[105] - expected[95] < 0.35  # of the 0.5 that it was


def test_window_and_polarity_by_hand():
    develop = lambda value, **c: detector.develop(
        jnp.full((8, 8), value),
        CLEAN | {"bend": 0.0, "bend_twice": 0.0, "speckle": 0.0} | c,
        SPACING,
        jax.random.key(0),
    )[4, 4]
    assert develop(-1.0) == pytest.approx(0, abs=1e-4) and develop(1.0) == pytest.approx(1, abs=1e-4)
    assert develop(0.0) == pytest.approx(0.5, abs=1e-4)
    assert develop(0.0, log_gamma=1.0) == pytest.approx(0.25, abs=1e-4)
    assert develop(3.0) == pytest.approx(1, abs=1e-4)  # clipped


def test_inversion_and_seams():
    plain = dict.fromkeys(("seam", "collimation", "text", "inverted", "unexposed"), -1.0)
    grey = jnp.full((40, 40), 0.3)
    finish = lambda **c: np.asarray(detector.finish(jax.random.key(4), grey, plain | c)[0])
    np.testing.assert_array_equal(finish(), grey)
    np.testing.assert_allclose(finish(inverted=0.1), 0.7, atol=1e-6)
    assert (finish(text=0.1) == 1).any() and (finish(text=0.1) == np.float32(0.3)).mean() > 0.7
    assert len(np.unique(finish(seam=0.1).round(4))) in (2, 3)  # above, below, and perhaps the line


@pytest.mark.parametrize(("unexposed", "border"), [(-1.0, 0.0), (1.0, 1.0)])
def test_outside_the_beam_there_is_neither_picture_nor_mask(unexposed, border):
    film = dict.fromkeys(("seam", "text", "inverted"), -1.0) | {"collimation": 0.1, "unexposed": unexposed}
    dark = 0
    for key in jax.random.split(jax.random.key(0), 6):
        grey, lit = detector.finish(key, jnp.full((60, 60), 0.3), film)
        assert lit[30, 30] and grey[30, 30] == pytest.approx(0.3, abs=0.02)
        # Half of the way to the film's shade is where the beam ends.
        np.testing.assert_array_equal(lit, abs(grey - border) > abs(0.3 - border) / 2)
        dark += int((~lit).sum())
    assert dark > 100


def test_blur_acts_on_what_arrives():
    """At the edge of lead, half of a pixel's light is half of the light, not half of the attenuation."""
    rays = jnp.where(jnp.arange(60)[None, :] < 30, 1.5, 7.5) * jnp.ones((60, 1))
    signal = expose(rays, noise=0.0, blur_pixels=2.0)
    arriving = np.exp(1.5 - np.asarray(rays[30], float))
    expected = -np.log(gaussian_filter1d(arriving, np.sqrt(4 + 1 / 12 + 0.02**2), mode="nearest", truncate=8))
    np.testing.assert_allclose(signal[30, 10:50], expected[10:50], atol=0.02)


def test_chord_by_hand():
    # A ball of radius 5: through its middle 10, at 2 inside the rim 2 sqrt(25 - 9) = 8, outside nothing.
    np.testing.assert_allclose(render.chord(jnp.array([5.0, 9.0, 2.0, -1.0]), 5.0), [10, 10, 8, 0], atol=1e-5)


PROCESSING_SPACING = jnp.array([0.5, 0.5])
clahe, multiscale, sharpen = map(jax.jit, (detector.clahe, detector.multiscale, detector.sharpen))


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
    clahe = jax.jit(jax.vmap(detector.clahe))
    plain, equalized = clahe(jnp.stack([grey] * 2), jnp.array([0.5, 3.0]), jnp.array([3.0, 7.9]))
    np.testing.assert_array_equal(plain, grey)
    assert equalized.min() >= 0 and equalized.max() <= 1 and equalized.std() > 1.2 * grey.std()


def test_sharpening_is_unsharp_masking():
    grey = picture(60)
    expected = grey + 1.5 * (grey - gaussian_filter(grey, 3, truncate=8))  # 1.5 mm in pixels of 0.5 mm
    interior = slice(20, 40)  # far from the borders, where the libraries differ
    result = sharpen(jnp.asarray(grey), 1.5, 1.5, PROCESSING_SPACING)
    np.testing.assert_allclose(
        result[interior, interior], np.clip(expected, 0, 1)[interior, interior], atol=1e-3
    )
    np.testing.assert_array_equal(sharpen(jnp.asarray(grey), -0.5, 1.5, PROCESSING_SPACING), grey)


def test_flat_exposure_keeps_the_share_of_the_base():
    flat = jnp.full((40, 40), 0.8, jnp.float32)
    np.testing.assert_allclose(multiscale(flat, 0.5, 0.4, PROCESSING_SPACING), 0.8 * 0.7, rtol=1e-5)


@pytest.mark.parametrize("strength", [-0.3, 0.0])
def test_without_strength_the_signal_stays(strength):
    signal = jnp.asarray(picture(40))
    np.testing.assert_allclose(multiscale(signal, strength, 0.2, PROCESSING_SPACING), signal, atol=1e-6)


@pytest.mark.parametrize("period_mm", [2.0, 8.0, 20.0])
def test_faint_waves_gain_as_the_transfer_functions_say(period_mm):
    """Of Gaussians: exp(-2 (pi sigma / period)^2); gains 1.5 of the finest band, 4 of the others, 0.3 of the base."""
    x = np.arange(256) * 0.5
    wave = np.sin(2 * np.pi * x / period_mm)[None, :] * np.ones((256, 1))
    result = multiscale(jnp.asarray(1e-4 * wave, jnp.float32), 1.0, 0.3, PROCESSING_SPACING)
    passed = [1.0, *(np.exp(-2 * (np.pi * s / period_mm) ** 2) for s in detector.SCALES_MM)]
    gain = (
        sum(g * (a - b) for g, a, b in zip((1.5, 4, 4, 4, 4), passed, passed[1:], strict=False))
        + 0.3 * passed[-1]
    )
    middle = slice(100, 156)  # far from the borders
    amplitude = 1e4 * np.sqrt(2) * np.std(np.asarray(result)[128, middle])
    input_amplitude = np.sqrt(2) * np.std(wave[128, middle])
    assert amplitude / input_amplitude == pytest.approx(gain, rel=0.02)
    strong = multiscale(jnp.asarray(wave, jnp.float32), 1.0, 0.3, PROCESSING_SPACING)
    assert np.std(np.asarray(strong)[128, middle]) < 0.75 * gain * np.std(wave[128, middle])
