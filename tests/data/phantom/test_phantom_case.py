import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax.data.phantom import NO_BIAS, Bias, draw_case, render, shapes
from kneefair_jax.data.phantom.curves import signed_distance

KEYS = jax.random.split(jax.random.key(7), 24)
FEMUR, TIBIA, FIBULA, PATELLA = 1, 2, 3, 4


@functools.cache
def batch():
    return jax.jit(jax.vmap(functools.partial(draw_case, size=(96, 96)), (0, None, None)))


@functools.cache
def draw(knee=0, bias=NO_BIAS):
    images, labels = batch()(KEYS, jnp.int32(knee), Bias(*(jnp.float32(strength) for strength in bias)))
    return np.asarray(images).astype(float), np.asarray(labels)


def contrast(image, label):
    tissue = (label == 0) & (image > 5)
    return image[label == TIBIA].mean() - image[tissue].mean()


def test_a_size_that_is_not_square():
    size = (48, 80)
    images, labels = jax.jit(functools.partial(draw_case, size=size))(KEYS[0])
    assert images.shape == labels.shape == size
    assert images.dtype == labels.dtype == jnp.uint8
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}


def test_every_case_shows_a_knee():
    _, labels = draw()
    for label in labels:
        rows = [np.flatnonzero((label == bone).any(axis=1)) for bone in (FEMUR, TIBIA, FIBULA, PATELLA)]
        femur, tibia, fibula, patella = rows
        assert femur[0] == 0 and tibia[-1] == 95 and fibula[-1] == 95  # shafts leave the picture
        assert np.median(femur) < np.median(tibia) and fibula[0] > tibia[0]
        assert len(patella) > 20 and patella[-1] < femur[-1]


def test_the_fibula_is_lateral():
    for knee, left_of_tibia in ((0, True), (1, False)):  # image left is the patient's right
        _, labels = draw(knee)
        for label in labels:
            place = [np.argwhere(label == bone)[:, 1].mean() for bone in (FIBULA, TIBIA)]
            assert (place[0] < place[1]) == left_of_tibia


def test_area_is_that_of_the_contour():
    key, at = jax.random.key(2), jnp.arange(-70, 70, 0.5) + 0.25
    bone = shapes.contours(shapes.draw_anatomy(key, key, 0.0), key).patella
    x, y = np.asarray(bone, float).T
    shoelace = abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    edges = np.diff(np.vstack([bone, bone[:1]]), axis=0)
    area = 0.25 * np.sum(np.asarray(signed_distance(bone, at, at)) > 0)
    assert abs(area - shoelace) < 0.5 * np.linalg.norm(edges, axis=1).sum()
    assert area == pytest.approx(shoelace, rel=0.01)


def test_zero_bias_is_no_bias():
    images, labels = draw()
    again = draw(bias=Bias(0.0, 0.0, 0.0))
    np.testing.assert_array_equal(images, again[0])
    np.testing.assert_array_equal(labels, again[1])


def test_contrast_lowers_bone_against_soft_tissue_and_keeps_the_mask():
    plain, biased = draw(), draw(bias=Bias(contrast=1.0))
    np.testing.assert_array_equal(plain[1], biased[1])
    before, after = ([contrast(*case) for case in zip(*cases, strict=True)] for cases in (plain, biased))
    assert (np.array(after) < 0.8 * np.array(before)).all()


def test_noise_adds_noise_and_keeps_the_mask():
    plain, biased = draw(), draw(bias=Bias(noise=1.0))
    np.testing.assert_array_equal(plain[1], biased[1])

    def roughness(images, labels):  # of neighbours within the tibia; white noise dominates it
        steps, inside = (
            np.abs(np.diff(images, axis=2)),
            (labels[:, :, 1:] == TIBIA) & (labels[:, :, :-1] == TIBIA),
        )
        return np.array([np.median(step[mask]) for step, mask in zip(steps, inside, strict=True)])

    assert (roughness(*biased) > 1.5 * roughness(*plain)).all()


def test_morphology_makes_bones_smaller():
    plain, biased = draw()[1], draw(bias=Bias(morphology=1.0))[1]
    for bone in (FEMUR, TIBIA):
        assert ((biased == bone).sum(axis=(1, 2)) < (plain == bone).sum(axis=(1, 2))).all()


def test_quantum_noise_has_the_stated_spread():
    look = render.Appearance(*(jnp.float32(1),) * 10)._replace(
        limb=jnp.float32(50), level=jnp.float32(-1), latitude=jnp.float32(2), photons=jnp.float32(2500.0)
    )
    rays = jnp.full((200, 200), 2 * render.SOFT * 50)
    image = render.expose(rays, look, jnp.array([0.5, 0.5]), jax.random.key(0))
    # 2500 photons per mm2 on 0.25 mm2 are 625 counts, 1/25 of them noise; the window maps 2 to 255.
    assert np.mean(image) == pytest.approx(255 / 2, abs=0.3)
    assert np.std(image) == pytest.approx(255 / 2 / 25, rel=0.02)
