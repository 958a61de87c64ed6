import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax.data.phantom import implants, objects
from kneefair_jax.data.phantom.curves import signed_distance
from kneefair_jax.data.phantom.shapes import TEMPLATE, Contours, contours

AT_Y, AT_X = (jnp.asarray(at, jnp.float32) for at in np.mgrid[-80:81, -60:61])
OUTLINES = jax.jit(contours)(TEMPLATE, jax.random.key(0), 0.0, 0.0)
FEMUR, TIBIA = (jax.jit(signed_distance)(bone, AT_Y[:, 0], AT_X[0]) for bone in OUTLINES[:2])
DISTANCES = Contours(FEMUR, TIBIA, -jnp.ones_like(FEMUR), -jnp.ones_like(FEMUR))
KEYS = jax.random.split(jax.random.key(1), 40)
NONE = {"replacement": -0.5, "fixation": -0.5}
BONE = (np.asarray(FEMUR) > 0) | (np.asarray(TIBIA) > 0)


@jax.jit
def attenuations(varied):
    one = lambda key: implants.attenuation(DISTANCES, TEMPLATE, varied, AT_Y, AT_X, key)
    return jax.vmap(one)(KEYS)


def drawn(**changes):
    """f32[40, H, W] in attenuation of steel."""
    return np.asarray(attenuations(NONE | changes)) / objects.STEEL


def test_implants_are_parts_of_the_bones():
    assert not drawn().any()
    for metal in (drawn(replacement=0.1), drawn(fixation=0.1)):
        assert not metal[:, ~BONE].any()
        assert metal[metal > 0].min() > 0 and metal.max() == 1
        assert (metal.max(axis=(1, 2)) >= 0.8).all()
        share = metal[:, BONE].mean(axis=1)
        assert share.min() > 0.005 and share.max() < 0.6 and len(set(share.round(4))) > 30


def test_a_replacement_covers_condyles_and_plateau():
    metal = drawn(replacement=0.1)
    lateral, medial = AT_X[0] > 15, AT_X[0] < -15
    condyle, plateau = 80 - 5, 80 + 8  # rows 5 mm above the condyles' lowest level and 3 mm below the plateau
    for row in (condyle, plateau):
        covered = [metal[:, row][:, side & BONE[row]].mean(axis=1) for side in (lateral, medial)]
        # All of one compartment at least, in most both.
        assert np.max(covered, axis=0).min() > 0.4 and np.min(covered, axis=0).mean() > 0.5
    assert metal[:, 80 + 25, 60].mean() > 0.3  # a stem


def test_a_replacement_leaves_room_for_the_insert():
    fitted = implants.fitted(TEMPLATE, NONE | {"replacement": 0.1})
    assert (fitted.joint_space, fitted.spine_height) == (implants.INSERT_MM, 0)
    assert implants.fitted(TEMPLATE, NONE) == TEMPLATE
