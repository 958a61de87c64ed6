import numpy as np
import pytest
from PIL import Image

from kneefair_jax.data import mask_checks
from kneefair_jax.data.mask_checks import contour_bands, interpolated_rims


def bones(size=128):
    """A femur (1) above a tibia (2), a fibula (3) beside it and a patella (4) in the femur."""
    y, x = np.mgrid[:size, :size] / size
    label = np.zeros((size, size), np.uint8)
    label[np.hypot((x - 0.5) / 0.3, (y - 0.2) / 0.28) < 1] = 1
    label[np.hypot((x - 0.5) / 0.28, (y - 0.8) / 0.28) < 1] = 2
    label[(np.abs(x - 0.83) < 0.05) & (y > 0.65)] = 3
    label[np.hypot((x - 0.5) / 0.12, (y - 0.25) / 0.1) < 1] = 4
    return label


def resized(label, size, how):
    values = Image.fromarray(label.astype(np.float32)).resize((size, size), how)
    return np.rint(np.asarray(values)).astype(np.uint8)


@pytest.mark.parametrize("size", [40, 64, 96, 150, 256, 512])
def test_linear_masks_are_told_from_nearest_ones(size):
    exact = resized(bones(), size, Image.Resampling.NEAREST)
    linear = resized(bones(), size, Image.Resampling.BILINEAR)
    assert interpolated_rims(exact).share < 0.1 and not interpolated_rims(exact).interpolated
    assert interpolated_rims(linear).share > 0.25 and interpolated_rims(linear).interpolated
    as_read = interpolated_rims(linear.astype(np.int64))
    assert as_read == interpolated_rims(linear) == interpolated_rims(linear.T)


def test_rims_by_hand():
    label = np.zeros((3, 12), np.uint8)
    label[:, 4:6], label[:, 6:] = 1, 3  # 1 is nowhere but in a rim: a thin structure of its own
    assert interpolated_rims(label) == (0, 0)
    label[:, :4] = 1
    label[:, 4:6] = 2  # likewise
    assert interpolated_rims(label) == (0, 0)
    label = np.array(
        [[0, 0, 1, 2, 2, 2, 0, 1, 1, 1, 1, 1]] * 3, np.uint8
    )  # one rim and one direct step a row
    assert interpolated_rims(label) == (3, 0.5)
    assert not interpolated_rims(label).interpolated  # they are few


def test_cartilage_is_a_structure():
    y, x = np.mgrid[:128, :128]
    radius = np.hypot(x - 64, y - 64)
    label = np.where(radius < 40, 2, np.where(radius < 43, 1, 0))
    assert not interpolated_rims(label).interpolated


def test_one_structure_and_none():
    for label in (np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8), bones() == 1):
        assert interpolated_rims(np.asarray(label, np.uint8)) == (0, 0)


def test_a_band_along_contours():
    label = bones().astype(np.int64)
    edge = np.zeros(label.shape, bool)
    edge[1:] |= label[1:] != label[:-1]
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    band = np.where(edge, 255, label)
    assert contour_bands(band, (1, 2, 3, 4), (0, 255)) == [255]
    assert contour_bands(band, (1, 2, 3, 4), (0,)) == []
    assert contour_bands(label, (1, 2, 3, 4), (0, 255)) == []
    everything = np.where(label == 0, 255, label)  # background by another number
    assert contour_bands(everything, (1, 2, 3, 4), (0, 255)) == []
    marker = label.copy()
    marker[:6, :6] = 255
    assert contour_bands(marker, (1, 2, 3, 4), (0, 255)) == []


def test_blocks_of_rows_count_as_the_whole(monkeypatch):
    label = np.random.default_rng(0).integers(0, 5, (37, 23)).repeat(3, 1)
    whole = mask_checks.interpolated_rims(label)
    monkeypatch.setattr(mask_checks, "_BLOCK", 5 * label.shape[1])
    assert mask_checks.interpolated_rims(label) == whole and whole.rims > 0
