import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax.data.phantom import bones, objects, ranges
from kneefair_jax.data.phantom.render import Projection
from kneefair_jax.data.phantom.shapes import TEMPLATE, Contours, contours, signed_distance

KEY = jax.random.key(0)
SPACING = jnp.array([1.0, 1.0])
AT_Y, AT_X = (jnp.asarray(at, jnp.float32) for at in np.mgrid[-70:71, -60:61])  # mm
DEEP = jnp.full(AT_X.shape, 20.0, jnp.float32)  # mm inside every bone
ROW, COLUMN = 70, 60  # of the frame's origin
NEUTRAL = dict.fromkeys(ranges.VARIED, 0.0) | {"notch": 1.0, "bump_mm": 8.0, "strand_mm": 5.0}
NEUTRAL |= {"roof_mm": 15.0, "plateau_mm": 4.0}

THICKNESS, ROUGHEN = jax.jit(bones.thickness), jax.jit(bones.roughen)


def projection(*depths):
    return Projection(Contours(*depths), TEMPLATE, AT_Y, AT_X, SPACING)


def factors(depth=DEEP, **changes):
    return THICKNESS(projection(*[depth] * 4), NEUTRAL | changes, KEY)


def test_without_strength_the_bones_are_those_of_plain_films():
    for factor in factors():
        np.testing.assert_allclose(factor, 1.0)
    assert bones.vary_anatomy(TEMPLATE, NEUTRAL) == TEMPLATE
    plain = projection(DEEP, DEEP + 1, DEEP + 2, DEEP + 3)
    rough = ROUGHEN(plain, NEUTRAL, KEY)
    for distance, expected in zip(rough.distances, plain.distances, strict=True):
        np.testing.assert_array_equal(distance, expected)
    np.testing.assert_array_equal(bones.skew(AT_X, 0.0), AT_X)


def test_bumps_have_the_stated_size_and_move_neighbors_alike():
    settings = NEUTRAL | {"bumps": 0.1, "bump_mm": 6.0}
    femur, tibia, fibula, patella = ROUGHEN(projection(*[DEEP] * 4), settings, KEY).distances
    assert np.std(femur) == pytest.approx(0.6, rel=1e-3)
    np.testing.assert_array_equal(femur, tibia)
    np.testing.assert_array_equal(femur, fibula)
    np.testing.assert_allclose(femur + patella, 2 * DEEP, atol=1e-4)


def test_the_fibula_moves_behind_the_tibia():
    changes = {"notch": 0.5, "fibula_mm": -20.0, "fibula_rise_mm": 3.0, "patella_drop_mm": 5.0}
    anatomy = bones.vary_anatomy(TEMPLATE, NEUTRAL | changes)
    assert (anatomy.notch_depth, anatomy.fibular_shift, anatomy.fibular_head_drop) == (7.0, -20.0, 9.0)
    assert anatomy.patella_rise == 30.0


def test_a_film_without_a_fibula():
    depths = Contours(DEEP, DEEP, DEEP, DEEP)
    assert np.max(bones.remove_fibula(depths, {"no_fibula": 0.1}).fibula) == -bones.FAR_MM
    for distance in bones.remove_fibula(depths, {"no_fibula": -0.1}):
        np.testing.assert_array_equal(distance, DEEP)


def test_a_faint_patella():
    np.testing.assert_allclose(factors(patella_faint=0.3).patella, 0.7, rtol=1e-6)
    shallow = jnp.broadcast_to(jnp.arange(AT_X.shape[1], dtype=jnp.float32), AT_X.shape) - 2
    edge = factors(shallow, patella_soft_mm=4.0).patella[0]
    np.testing.assert_allclose(edge[:8], [0, 0, 0, 0.25, 0.5, 0.75, 1, 1])
    patella = factors(patella_fade=0.8).patella
    assert np.min(patella) == pytest.approx(0.2, abs=0.01) and np.max(patella) == pytest.approx(1.0, abs=0.01)


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
    np.testing.assert_allclose(bones.skew(jnp.array([-10.0, 0.0, 10.0]), 0.2), [-10 / 1.2, 0, 12.5])


FILM_Y, FILM_X = (jnp.asarray(at, jnp.float32) for at in np.mgrid[-80:81, -60:61])
OUTLINES = jax.jit(contours)(TEMPLATE, jax.random.key(0), 0.0, 0.0)
FEMUR, TIBIA = (jax.jit(signed_distance)(bone, FILM_Y[:, 0], FILM_X[0]) for bone in OUTLINES[:2])
DISTANCES = Contours(FEMUR, TIBIA, -jnp.ones_like(FEMUR), -jnp.ones_like(FEMUR))
FILM = Projection(DISTANCES, TEMPLATE, FILM_Y, FILM_X, SPACING)
KEYS = jax.random.split(jax.random.key(1), 40)
NONE = {"replacement": -0.5, "fixation": -0.5}
BONE = (np.asarray(FEMUR) > 0) | (np.asarray(TIBIA) > 0)


@jax.jit
def attenuations(variation):
    return jax.vmap(lambda key: bones.implants(FILM, variation, key))(KEYS)


def draw_metal(**changes):
    """f32[40, H, W] in attenuation of steel."""
    return np.asarray(attenuations(NONE | changes)) / objects.STEEL


def test_implants_are_parts_of_the_bones():
    assert not draw_metal().any()
    for metal in (draw_metal(replacement=0.1), draw_metal(fixation=0.1)):
        assert not metal[:, ~BONE].any()
        assert metal[metal > 0].min() > 0 and metal.max() == 1
        assert (metal.max(axis=(1, 2)) >= 0.8).all()
        share = metal[:, BONE].mean(axis=1)
        assert share.min() > 0.005 and share.max() < 0.6 and len(set(share.round(4))) > 30


def test_a_replacement_covers_condyles_and_plateau():
    metal = draw_metal(replacement=0.1)
    lateral, medial = FILM_X[0] > 15, FILM_X[0] < -15
    condyle, plateau = 80 - 5, 80 + 8  # rows 5 mm above the condyles' lowest level and 3 mm below the plateau
    for row in (condyle, plateau):
        shares = [metal[:, row][:, side & BONE[row]].mean(axis=1) for side in (lateral, medial)]
        # All of one compartment at least, in most both.
        assert np.max(shares, axis=0).min() > 0.4 and np.min(shares, axis=0).mean() > 0.5
    assert metal[:, 80 + 25, 60].mean() > 0.3  # a stem


def test_a_replacement_leaves_room_for_the_insert():
    anatomy = bones.fit_insert(TEMPLATE, NONE | {"replacement": 0.1})
    assert (anatomy.joint_space, anatomy.spine_height) == (bones.INSERT_MM, 0)
    assert bones.fit_insert(TEMPLATE, NONE) == TEMPLATE
