import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax.data.phantom import shapes
from kneefair_jax.data.phantom.curves import signed_distance


def draw(count, morphology=0.0):
    keys = jax.random.split(jax.random.key(0), count)
    knees = jax.random.split(jax.random.key(1), count)
    return jax.vmap(shapes.draw_anatomy, (0, 0, None))(keys, knees, morphology)


def test_lengths_have_the_stated_distribution():
    anatomy = draw(4000)
    width = np.asarray(anatomy.epicondylar_width)
    assert width.mean() == pytest.approx(82, abs=0.5)
    assert 70 < np.quantile(width, 0.01) < np.quantile(width, 0.99) < 95
    for name, values, mean in zip(anatomy._fields, anatomy, shapes.MEAN, strict=True):
        assert np.mean(values) == pytest.approx(mean, rel=0.03), name


def test_morphology_moves_every_mean_to_the_biased_one():
    for name, values, mean in zip(shapes.Anatomy._fields, draw(4000, 1.0), shapes.BIASED, strict=True):
        assert np.mean(values) == pytest.approx(mean, rel=0.05, abs=0.15), name


def test_two_knees_of_a_patient_are_alike():
    keys, knees = jax.random.split(jax.random.key(0), 2000), jax.random.split(jax.random.key(1), 4000)
    one = jax.vmap(shapes.draw_anatomy, (0, 0, None))(keys, knees[:2000], 0.0)
    other = jax.vmap(shapes.draw_anatomy, (0, 0, None))(keys, knees[2000:], 0.0)
    correlation = np.corrcoef(one.notch_depth, other.notch_depth)[0, 1]
    assert 0.85 < correlation < 0.99


def test_bones_do_not_collide():
    @jax.jit
    @jax.vmap
    def overlap(key, morphology):
        at = jnp.arange(-70.0, 70.0, 1.0)
        bones = shapes.contours(shapes.draw_anatomy(key, key, morphology), key)
        femur, tibia, fibula = (signed_distance(bone, at, at) > 0 for bone in bones[:3])
        return (femur & tibia).sum(), (femur & fibula).sum(), (tibia & fibula).sum(), fibula.sum()

    tibia, fibula, hidden, whole = overlap(
        jax.random.split(jax.random.key(3), 200), jnp.repeat(jnp.array([0.0, 1.0]), 100)
    )
    assert not tibia.any() and not fibula.any()
    assert (
        (hidden > 0) & (hidden < 0.5 * whole)
    ).mean() > 0.9  # the fibula's head lies partly behind the tibia
