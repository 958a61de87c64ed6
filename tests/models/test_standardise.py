import numpy as np

from kneefair_jax import models


def test_mean_zero_variance_one_for_each_image():
    image = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 1)).astype(np.uint8)
    result = np.asarray(models.standardise(image))
    np.testing.assert_allclose(result.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(result.std((1, 2, 3)), 1, atol=0.02)


def test_u8_and_unit_floats_are_the_same_and_exposure_drops_out():
    image = np.random.default_rng(0).integers(0, 100, (1, 8, 8, 1)).astype(np.uint8)
    scaled = image.astype(np.float32) / 255
    np.testing.assert_allclose(models.standardise(image), models.standardise(scaled), atol=1e-5)
    np.testing.assert_allclose(models.standardise(image), models.standardise(2 * scaled + 0.1), atol=0.02)


def test_a_blank_image_is_finite():
    assert np.isfinite(np.asarray(models.standardise(np.full((1, 4, 4, 1), 7, np.uint8)))).all()
