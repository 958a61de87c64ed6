import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax.data.phantom import ranges, render
from kneefair_jax.data.phantom.shapes import TEMPLATE, Contours

AT_Y, AT_X = (jnp.asarray(at, jnp.float32) for at in np.mgrid[-30:30:2, -30:30:2])
DISTANCES = Contours(AT_X + 10, AT_Y + 5, 8 - AT_X, 12 - AT_Y)
KEY = jax.random.key(0)
PATIENT, FILM = (ranges.draw(KEY, table, 0.5) for table in (ranges.PATIENT, ranges.FILM))


def test_the_bones_attenuations_add_up():
    @jax.jit
    @jax.vmap
    def bone(factors):
        thickness = Contours(*(jnp.full(AT_X.shape, factor) for factor in factors))
        projection = render.Projection(DISTANCES, TEMPLATE, AT_Y, AT_X, jnp.array([2.0, 2.0]))
        return render.bone(projection, 1.0, PATIENT, FILM, KEY, thickness)

    *one_by_one, double = bone(jnp.concatenate([jnp.eye(4), jnp.full((1, 4), 2.0)]))
    np.testing.assert_allclose(2 * sum(one_by_one), double, rtol=1e-5)
    for attenuation, distance in zip(one_by_one, DISTANCES, strict=True):
        assert not attenuation[distance <= 0].any() and (attenuation[distance > 1] > 0).all()
