import jax
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax.data import augment
from kneefair_jax.data.augment import Augmentation

SHAPE = (28, 36)
WARP = Augmentation(rotation=25.0, scale=0.3, stretch=0.2, shear=0.2, shift=0.1, elastic=1 / 16)


def pictures(seed=0):
    """Smooth blobs, and labels in patches."""
    rng = np.random.default_rng(seed)
    image = scipy.ndimage.gaussian_filter(rng.uniform(size=(*SHAPE, 2)), (2, 2, 0)).astype(np.float32)
    label = np.kron(rng.integers(0, 4, (7, 9)), np.ones((4, 4))).astype(np.int32)
    return image, label


def draw_source(seed, strength=WARP, shape=SHAPE):
    return [np.asarray(part) for part in augment.warp_source(jax.random.key(seed), shape, strength)]


def nearest(label, source):
    """Pixel by pixel, by hand."""
    result = np.empty_like(label)
    for y, x in np.ndindex(label.shape):
        row, column = (int(np.floor(part[y, x] + 0.5)) for part in source)
        result[y, x] = label[
            min(max(row, 0), label.shape[0] - 1),
            min(max(column, 0), label.shape[1] - 1),
        ]
    return result


@pytest.mark.parametrize("seed", range(4))
def test_one_interpolation_of_affine_and_elastic_against_brute_force(seed):
    image, label = pictures(seed)
    source = draw_source(seed)
    new_image, new_label = augment.resample(image, label, source)
    # At a tie between two pixels either is right; none is drawn here.
    assert min(np.abs(part % 1 - 0.5).min() for part in source) > 1e-6
    np.testing.assert_array_equal(new_label, nearest(label, source))
    for channel in range(2):
        expected = scipy.ndimage.map_coordinates(image[..., channel], source, order=1, mode="nearest")
        np.testing.assert_allclose(new_image[..., channel], expected, atol=1e-5)
    assert 0.1 < (np.asarray(new_label) != label).mean() < 0.9


def test_the_warp_of_a_batch_is_this_one():
    image, label = pictures()
    key = jax.random.key(7)
    new_image, new_label = augment.vary_geometry(key, image, label, WARP, np.arange(4))
    source = augment.warp_source(jax.random.split(key)[1], SHAPE, WARP)
    expected = augment.resample(image, label, source)
    np.testing.assert_allclose(new_image, expected[0], atol=1e-6)
    np.testing.assert_array_equal(new_label, expected[1])


@pytest.mark.parametrize("seed", range(3))
def test_the_affine_part_is_the_matrix_it_says(seed):
    """Fitted to the field by least squares: R S [stretch, shear], within the strengths, and nothing else."""
    strength = WARP._replace(elastic=0.0)
    field = np.stack(draw_source(seed, strength)).reshape(2, -1)
    grid = np.indices(SHAPE).reshape(2, -1)
    design = np.vstack([grid, np.ones(grid.shape[1])]).T
    fitted, residual, *_ = np.linalg.lstsq(design, field.T, rcond=None)
    assert residual.max() < 1e-6
    # matrix = rotation / zoom @ upper part: QR takes it apart.
    rotation, upper = np.linalg.qr(fitted[:2].T)
    rotation, upper = rotation * np.sign(np.diag(upper)), upper * np.sign(np.diag(upper))[:, None]
    assert np.linalg.det(rotation) == pytest.approx(1)
    # y' = a y, x' = (x - slant y) / a, so lower triangular; its QR angle differs, its determinant does not.
    assert 1 / 1.3**2 - 1e-6 <= upper[0, 0] * upper[1, 1] <= 1.3**2 + 1e-6
    centre = (np.array(SHAPE) - 1) / 2
    shift = np.linalg.solve(fitted[:2].T, centre - fitted[2]) - centre
    assert (np.abs(shift) <= 0.1 * np.array(SHAPE) + 1e-4).all()


@pytest.mark.parametrize(
    ("strength", "matrix"),
    [
        ({"rotation": 30.0}, lambda a: [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]),
        ({"scale": 0.5}, lambda a: [[a, 0], [0, a]]),
        ({"stretch": 0.5}, lambda a: [[a, 0], [0, 1 / a]]),
        ({"shear": 0.5}, lambda a: [[1, 0], [a, 1]]),
    ],
)
def test_each_strength_by_itself(strength, matrix):
    """200 draws have the form of a one-parameter matrix, reach its limits and do not pass them."""
    keys = jax.random.split(jax.random.key(0), 200)
    fields = jax.vmap(lambda key: augment.warp_source(key, (3, 3), Augmentation(**strength)))(keys)
    field = np.stack(fields, 1)  # [200, 2, 3, 3]; its centre stays
    np.testing.assert_allclose(field[:, :, 1, 1], 1, atol=1e-6)
    offsets = np.stack([field[:, :, 2, 1] - 1, field[:, :, 1, 2] - 1], -1)
    value = {
        "rotation": np.arctan2(offsets[:, 1, 0], offsets[:, 0, 0]),
        "scale": offsets[:, 0, 0],
        "stretch": offsets[:, 0, 0],
        "shear": offsets[:, 1, 0],
    }[next(iter(strength))]
    np.testing.assert_allclose(offsets, [matrix(a) for a in value], atol=1e-5)
    low, high = {
        "rotation": (-np.pi / 6, np.pi / 6),
        "scale": (1 / 1.5, 1.5),
        "stretch": (1.5**-0.5, 1.5**0.5),
        "shear": (-0.5, 0.5),
    }[next(iter(strength))]
    assert low - 1e-5 <= value.min() < low + 0.1 * (high - low)
    assert high + 1e-5 >= value.max() > high - 0.1 * (high - low)


def test_elastic_bends_smoothly_within_its_strength():
    keys = jax.random.split(jax.random.key(1), 64)
    field = np.asarray(jax.vmap(lambda key: augment.elastic_field(key, (64, 64)))(keys))
    assert np.abs(field).max() <= 1
    assert np.abs(field).max() > 0.5
    # A cell is 16 pixels: neighbours differ by at most 2 / 16, and the field is not flat.
    assert np.abs(np.diff(field, axis=-1)).max() < 2 / 16
    assert field.std((2, 3)).max() > 0.1


@settings(max_examples=50)
@given(st.lists(st.sampled_from([-1.0, 1.0]), min_size=98, max_size=98))
def test_at_its_limit_it_does_not_fold(control):
    """Even with every control point at an end of its range, areas keep their sign."""
    control = np.array(control).reshape(2, 7, 7)
    splines = augment._splines(65)  # 16 pixels a cell
    bend = np.einsum("hi,dij,wj->dhw", splines, control, splines) / 16 * 64
    field = np.indices((65, 65)) + bend
    down, across = np.diff(field, axis=1)[:, :, :-1], np.diff(field, axis=2)[:, :-1]
    assert (down[0] * across[1] - down[1] * across[0] > 0).all()


def test_a_spline_pulled_in_one_place_moves_only_there():
    splines = augment._splines(41)
    np.testing.assert_allclose(splines.sum(1), 1, rtol=1e-6)
    # The cubic B-spline at its knots: 1/6, 4/6, 1/6.
    np.testing.assert_allclose(splines[[10, 20, 30], 3], [1 / 6, 4 / 6, 1 / 6], rtol=1e-6)
    assert (splines[:, 0][10:] == 0).all()


def test_the_border_goes_on_beyond_the_picture():
    label = np.arange(12, dtype=np.int32).reshape(3, 4)
    image = label[..., None].astype(np.float32)
    rows, columns = np.indices((3, 4)).astype(np.float32)
    new_image, new_label = augment.resample(image, label, (rows, columns + 2))
    np.testing.assert_array_equal(new_label, label[:, [2, 3, 3, 3]])
    np.testing.assert_array_equal(new_image[..., 0], new_label)
