import functools

import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data.augment import Augmentation, augment

SIDES = ("right lung", "left lung", "heart")
KEY = jax.random.key(3)


def batch(size=6, height=20, width=16):
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(size, height, width, 1)).astype(np.float32)
    label = rng.integers(0, 4, (size, height, width)).astype(np.int32)
    return image, label, np.arange(size, dtype=np.int32)


TABLE = jnp.asarray(anatomy.flip_table(SIDES))
JITTED = jax.jit(augment, static_argnames="strength")


def run(image, label, position, **strength):
    return JITTED(KEY, image, label, position, strength=Augmentation(**strength), flip_table=TABLE)


def test_zero_strength_changes_nothing():
    image, label, position = batch()
    new_image, new_label = run(image, label, position)
    np.testing.assert_array_equal(new_image, image)
    np.testing.assert_array_equal(new_label, label)


def test_a_flip_swaps_the_labels():
    """The trap: a mirrored right lung is a left lung."""
    image, label, position = batch()
    new_image, new_label = run(image, label, position, flip=1.0)
    np.testing.assert_array_equal(new_image, image[:, :, ::-1])
    swapped = np.array([0, 2, 1, 3])[label[:, :, ::-1]]
    np.testing.assert_array_equal(new_label, swapped)
    assert (np.asarray(new_label) != label[:, :, ::-1]).any()


def test_about_half_are_flipped():
    image, label, position = batch(size=400, height=4, width=4)
    new_image, _ = run(image, label, position, flip=0.5)
    share = (np.asarray(new_image) != image).any((1, 2, 3)).mean()
    assert 0.4 < share < 0.6


EVERYTHING = {
    "flip": 0.5,
    "rotation": 20.0,
    "scale": 0.2,
    "stretch": 0.1,
    "shear": 0.1,
    "shift": 0.1,
    "elastic": 0.05,
    "gamma": 0.5,
    "contrast": 0.3,
    "blur": 1.5,
    "noise": 0.05,
    "cut_out": 0.4,
    "marker": 0.5,
    "collimation": 0.5,
    "invert": 0.5,
}


def test_what_has_no_strength_is_not_in_the_program():
    def program(**strength):
        traced = functools.partial(augment, strength=Augmentation(**strength), flip_table=TABLE)
        return jax.make_jaxpr(traced)(KEY, *batch()).jaxpr

    assert set(EVERYTHING) == set(Augmentation._fields)
    assert not program().eqns
    assert len({str(program(**{name: value})) for name, value in EVERYTHING.items()}) == len(EVERYTHING)
    assert "gather" in str(program(elastic=0.05))
    assert "gather" not in str(program(gamma=0.5, blur=1.0, cut_out=0.2, collimation=0.5, invert=0.5))
    assert "erf_inv" not in str(program(gamma=0.5, rotation=10.0))


def test_everything_at_once_stays_a_picture_and_its_labels():
    image, label, position = batch()
    new_image, new_label = run(image, label, position, **EVERYTHING)
    assert set(np.unique(new_label)) <= {0, 1, 2, 3}
    assert new_label.dtype == jnp.int32 and new_image.dtype == jnp.float32
    assert np.isfinite(new_image).all() and new_image.shape == image.shape
    assert (np.asarray(new_image) != image).any((1, 2, 3)).all()


def test_a_draw_depends_on_the_position_in_the_global_batch_and_not_on_the_device():
    image, label, position = batch()
    batch_result = run(image, label, position, **EVERYTHING)
    elsewhere = np.array([3, 1, 5, 0, 2, 4])
    parts = run(image[elsewhere], label[elsewhere], position[elsewhere], **EVERYTHING)
    np.testing.assert_allclose(batch_result[0][elsewhere], parts[0], atol=1e-6)
    np.testing.assert_array_equal(batch_result[1][elsewhere], parts[1])


def test_another_place_or_another_step_is_another_draw():
    image, label, position = batch()
    image, label = np.repeat(image[:1], 6, 0), np.repeat(label[:1], 6, 0)
    one, _ = run(image, label, position, **EVERYTHING)
    assert len({example.tobytes() for example in np.asarray(one)}) == 6
    strength = Augmentation(**EVERYTHING)
    other, _ = JITTED(jax.random.key(4), image, label, position, strength=strength, flip_table=TABLE)
    assert (one != other).any((1, 2, 3)).all()
