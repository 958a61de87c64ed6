import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import anatomy
from kneefair_jax.data.phantom import NO_BIAS, Bias, draw_case, draw_film
from kneefair_jax.data.phantom.case import draw_grade
from kneefair_jax.errors import InputError
from tests.hostile import films

KEYS = jax.random.split(jax.random.key(7), 24)
FEMUR, TIBIA, FIBULA, PATELLA = 1, 2, 3, 4
SIZE = (96, 112)
DRAWN = -1  # a grade that is not given


@jax.jit
def one_program(keys, knee, width, grade):
    """All that is drawn of one knee here, compiled once."""

    def case(key, grade):
        grade = jnp.where(grade == DRAWN, draw_grade(key, knee, NO_BIAS, width), grade)
        return draw_case(key, knee, NO_BIAS, size=SIZE, width=width, grade=grade)

    return jax.vmap(case)(keys, grade)


@functools.cache
def draw(knee=0, width=0.0):
    grades = jnp.full(len(KEYS), DRAWN, jnp.int32)
    return jax.device_get(one_program(KEYS, jnp.int32(knee), jnp.float32(width), grades))


def test_a_case_is_a_knee_with_an_exact_mask_and_bright_bone():
    """Of the program that many tests share, which is compiled once; test_phantom_cohort.py has sizes, sides, grades."""
    for number in range(4):
        image, label = films.knee(number)
        assert image.shape == label.shape == (64, 64) and image.dtype == label.dtype == np.uint8
        assert set(np.unique(label)) == {0, 1, 2, 3, 4}
        rows = [np.flatnonzero((label == bone).any(axis=1)) for bone in (FEMUR, TIBIA, FIBULA, PATELLA)]
        femur, tibia, fibula, patella = rows
        assert femur[0] <= 11 and min(tibia[-1], fibula[-1]) >= 52
        assert np.median(femur) < np.median(tibia) and fibula[0] > tibia[0]
        assert len(patella) > 12 and patella[-1] < femur[-1]
        tibia_gray, rest = image[label == TIBIA].mean(), image[(label == 0) & (image > 5)].mean()
        assert tibia_gray > rest


def test_all_that_is_drawn_of_a_knee_has_the_stated_size():
    case = jax.eval_shape(one_program, KEYS, jnp.int32(0), jnp.float32(0), jnp.full(len(KEYS), DRAWN))
    shape = (len(KEYS), *SIZE)
    assert case.image.shape == case.label.shape == case.exact.shape == shape and case.label.dtype == jnp.uint8


@pytest.mark.slow
def test_a_size_that_is_not_square():
    phantom = jax.tree.map(lambda leaf: leaf[0], draw())
    assert phantom.image.shape == phantom.label.shape == phantom.exact.shape == SIZE
    assert phantom.image.dtype == phantom.label.dtype == jnp.uint8
    np.testing.assert_allclose(phantom.spacing, 140 / 96)
    assert set(np.unique(phantom.label)) == {0, 1, 2, 3, 4}


@pytest.mark.slow
def test_every_case_shows_a_knee():
    for label in draw().label:
        rows = [np.flatnonzero((label == bone).any(axis=1)) for bone in (FEMUR, TIBIA, FIBULA, PATELLA)]
        femur, tibia, fibula, patella = rows
        # Shafts leave the picture, or the beam, whose edges may lie 16 % inside of it.
        assert femur[0] <= 16 and min(tibia[-1], fibula[-1]) >= 79
        assert np.median(femur) < np.median(tibia) and fibula[0] > tibia[0]
        assert len(patella) > 18 and patella[-1] < femur[-1]


@pytest.mark.slow
def test_the_fibula_is_lateral():
    for knee, left_of_tibia in ((0, True), (1, False)):  # image left is the patient's right
        for label in draw(knee).label:
            place = [np.argwhere(label == bone)[:, 1].mean() for bone in (FIBULA, TIBIA)]
            assert (place[0] < place[1]) == left_of_tibia


@pytest.mark.slow
def test_without_bias_the_mask_is_exact_and_bone_is_bright():
    phantom = draw()
    np.testing.assert_array_equal(phantom.label, phantom.exact)
    for image, label in zip(phantom.image.astype(float), phantom.label, strict=True):
        assert image[label == TIBIA].mean() > image[(label == 0) & (image > 5)].mean()


@pytest.mark.slow
def test_the_grade_can_be_an_argument():
    same, grades = jnp.repeat(KEYS[:1], len(KEYS)), jnp.arange(len(KEYS)) % 5
    phantoms = one_program(same, jnp.int32(0), jnp.float32(0), grades)
    np.testing.assert_array_equal(phantoms.grade[:, 0], grades)
    # Bone on bone at grade 4, and spurs: fewer background pixels between the margins.
    assert (phantoms.label[4] > 0).sum() > (phantoms.label[0] > 0).sum()


@pytest.mark.slow
def test_wide_pictures_differ_more_than_clinical_ones():
    clinical, wide = draw(), draw(width=1.0)
    spread = lambda phantom: phantom.image.astype(float).mean(axis=(1, 2)).std()
    assert spread(wide) > 1.5 * spread(clinical)
    # Whatever is drawn, the knee stays in the picture and nothing is left undrawn.
    for image, label in zip(wide.image, wide.label, strict=True):
        assert np.ptp(image) > 20 and (label == TIBIA).any() and (label == FEMUR).any()


@pytest.mark.slow
def test_a_film_of_both_knees_has_the_right_one_on_its_left():
    film = jax.device_get(jax.jit(lambda k: draw_film(k, size=(96, 96), fov_mm=340.0))(KEYS[1]))
    names = anatomy.SCHEMES["knees"]
    assert set(np.unique(film.label)) == set(range(9)) and film.grade.shape == (2,)
    column = {name: np.argwhere(film.label == i)[:, 1].mean() for i, name in enumerate(names, start=1)}
    assert column["right fibula"] < column["right tibia"] < 48 < column["left tibia"] < column["left fibula"]
    # The knees of one patient: about as large.
    area = [np.sum(film.label == names.index(f"{side} femur") + 1) for side in ("right", "left")]
    assert area[0] == pytest.approx(area[1], rel=0.15)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), np.array([0.5, 2.0])])
@pytest.mark.parametrize("draw_phantom", [draw_case, draw_film])
def test_a_strength_outside_its_range_is_refused(draw_phantom, strength):
    with pytest.raises(InputError, match=r"Bias\.contrast = .*from 0 to 1"):
        draw_phantom(KEYS[0], bias=Bias(contrast=strength), size=SIZE)
