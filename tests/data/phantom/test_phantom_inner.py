import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax.data.phantom import inner, ranges
from kneefair_jax.data.phantom.shapes import TEMPLATE, Contours

KEY = jax.random.key(0)
SPACING = jnp.array([1.0, 1.0])
AT_Y, AT_X = (jnp.asarray(at, jnp.float32) for at in np.mgrid[-70:71, -60:61])  # mm
DEEP = jnp.full(AT_X.shape, 20.0, jnp.float32)  # mm inside every bone
ROW, COLUMN = 70, 60  # of the frame's origin
NEUTRAL = dict.fromkeys(ranges.VARIED, 0.0) | {"notch": 1.0, "bump_mm": 8.0, "strand_mm": 5.0}
NEUTRAL |= {"roof_mm": 15.0, "plateau_mm": 4.0}

compiled, roughened = jax.jit(inner.thickness), jax.jit(inner.roughened)


def factors(depth=DEEP, **changes):
    distances = Contours(*[depth] * 4)
    return compiled(distances, TEMPLATE, NEUTRAL | changes, AT_Y, AT_X, SPACING, KEY)


def test_without_strength_the_bones_are_those_of_plain_films():
    for factor in factors():
        np.testing.assert_allclose(factor, 1.0)
    assert inner.posed(TEMPLATE, NEUTRAL) == TEMPLATE
    plain = Contours(DEEP, DEEP + 1, DEEP + 2, DEEP + 3)
    for rough, smooth in zip(roughened(plain, NEUTRAL, SPACING, KEY), plain, strict=True):
        np.testing.assert_array_equal(rough, smooth)
    np.testing.assert_array_equal(inner.skewed(AT_X, 0.0), AT_X)


def test_bumps_have_the_stated_size_and_move_neighbors_alike():
    settings = NEUTRAL | {"bumps": 0.1, "bump_mm": 6.0}
    femur, tibia, fibula, patella = roughened(Contours(*[DEEP] * 4), settings, SPACING, KEY)
    assert np.std(femur) == pytest.approx(0.6, rel=1e-3)
    np.testing.assert_array_equal(femur, tibia)
    np.testing.assert_array_equal(femur, fibula)
    np.testing.assert_allclose(femur + patella, 2 * DEEP, atol=1e-4)


def test_the_fibula_moves_behind_the_tibia():
    changes = {"notch": 0.5, "fibula_mm": -20.0, "fibula_rise_mm": 3.0, "patella_drop_mm": 5.0}
    moved = inner.posed(TEMPLATE, NEUTRAL | changes)
    assert (moved.notch_depth, moved.fibular_shift, moved.fibular_head_drop) == (7.0, -20.0, 9.0)
    assert moved.patella_rise == 30.0


def test_a_faint_patella():
    np.testing.assert_allclose(factors(patella_faint=0.3).patella, 0.7, rtol=1e-6)
    shallow = jnp.broadcast_to(jnp.arange(AT_X.shape[1], dtype=jnp.float32), AT_X.shape) - 2
    edge = factors(shallow, patella_soft_mm=4.0).patella[0]
    np.testing.assert_allclose(edge[:8], [0, 0, 0, 0.25, 0.5, 0.75, 1, 1])
    faded = factors(patella_fade=0.8).patella
    assert np.min(faded) == pytest.approx(0.2, abs=0.01) and np.max(faded) == pytest.approx(1.0, abs=0.01)


def test_little_bone_over_the_notch_and_between_the_rims():
    over = factors(roof=0.6, roof_mm=15.0).femur[:, COLUMN]
    assert over[ROW - 5] == pytest.approx(0.4, abs=0.01) and over[ROW - 18] == pytest.approx(1.0, abs=0.01)
    assert factors(roof=0.6).femur[ROW - 5, COLUMN - 30] == pytest.approx(1.0, abs=0.01)
    # The tibia's depth from the joint space of 5 mm on.
    between = factors(AT_Y - 5, plateau=0.7, plateau_mm=5.0).tibia
    assert between[ROW + 6, COLUMN] == pytest.approx(0.3, abs=0.05)
    np.testing.assert_allclose(between[ROW + 16 :], 1.0, atol=0.02)


def test_condyles_are_deeper_than_the_bone_between_them():
    medial = factors(condyle_medial=0.8).femur
    assert np.max(medial[:, :COLUMN]) > 1.7 and np.max(medial[:, COLUMN + 10 :]) == 1.0


@pytest.mark.parametrize(("strand_mm", "least"), [(6.0, 0.1), (0.5, 0.0)])
def test_strands_cross_the_femur_and_are_averaged_where_pixels_are_large(strand_mm, least):
    spread = np.std(factors(strands=0.2, strand_mm=strand_mm).femur)
    assert least < spread < (0.25 if least else 1e-4)


def test_soft_tissue_is_wider_on_the_medial_side():
    np.testing.assert_allclose(inner.skewed(jnp.array([-10.0, 0.0, 10.0]), 0.2), [-10 / 1.2, 0, 12.5])
