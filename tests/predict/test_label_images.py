"""Masks among radiographs: by the constant regions of a mask, and by the words of its name."""

import numpy as np
import pytest

from kneefair_jax.predict.label_images import MIN_CONSTANT, constant_share, is_label_image
from tests.hostile import masks


def film(size: int) -> np.ndarray:
    """Two bright shafts on soft tissue with noise of 4 % of the range, u8[size, size]."""
    y, x = np.mgrid[:size, :size] / size
    bright = 90 + 60 * np.sin(3 * x) * np.cos(2 * y) + 70 * (np.abs(x - 0.5) < 0.2) * (np.abs(y - 0.5) > 0.03)
    noise = np.random.default_rng(0).normal(0, 10, (size, size))
    return np.clip(bright + noise, 0, 255).astype(np.uint8)


def mask(size: int) -> np.ndarray:
    """Two shafts and a smaller bone, u8[size, size]."""
    y, x = np.mgrid[:size, :size] / size
    shaft = np.abs(x - 0.5) < 0.2
    return np.select([shaft & (y < 0.47), shaft & (y > 0.53), (x > 0.75) & (y > 0.6)], [1, 2, 3], 0).astype(
        np.uint8
    )


@pytest.mark.parametrize("size", [64, 300])
@pytest.mark.parametrize("values", [8, 16, 32])
def test_films_of_few_gray_values_are_no_masks(values, size):
    image = film(size) // (256 // values)
    assert 3 < len(np.unique(image)) <= values and not is_label_image(image, "a")


@pytest.mark.parametrize("size", [64, 300])
def test_masks_are_recognized_by_their_regions(size):
    label = mask(size)
    assert is_label_image(label, "a") and is_label_image(np.repeat(label[..., None] * 50, 3, 2), "a")


@pytest.mark.slow  # draws 40 phantoms
def test_the_threshold_separates_phantoms_from_their_masks():
    films, labels = masks.phantoms()
    assert max(constant_share(image // 32) for image in films) < MIN_CONSTANT - 0.03
    assert min(map(constant_share, labels)) > MIN_CONSTANT + 0.03


def test_two_values_are_a_mask_and_one_value_is_if_its_name_says_so():
    noise = np.random.default_rng(0).integers(0, 2, (20, 20), np.uint8)
    assert is_label_image(noise * 255, "a")
    blank = np.zeros((20, 20), np.uint8)
    assert [is_label_image(blank, name) for name in ("a", "a_mask", "gt/a", "mask_a")] == [
        False,
        True,
        True,
        True,
    ]


def test_a_name_marks_a_mask_with_few_values_only():
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    assert not is_label_image(noise, "masks/a") and is_label_image(noise // 64, "masks/a")
    assert not is_label_image(noise // 64, "a")


def test_an_image_of_two_columns_has_no_constant_region():
    assert constant_share(np.zeros((9, 2), np.uint8)) == 0
