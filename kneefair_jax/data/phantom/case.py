"""One phantom case from a random key: anatomy, pose, picture and mask."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom import render, shapes
from kneefair_jax.data.phantom.curves import signed_distance


class Bias(NamedTuple):
    """How strongly each switch acts; f32 in [0, 1] each, 0 meaning not at all."""

    morphology: jax.Array | float = 0.0  # shape and size of the bones
    contrast: jax.Array | float = 0.0  # less mineral in them
    noise: jax.Array | float = 0.0  # fewer photons


NO_BIAS = Bias()


# Accelerators round matrix products to ten bits by default: tenths of a millimetre on a contour.
@jax.default_matmul_precision("highest")
def draw_case(
    key: jax.Array,
    knee: jax.Array | int = 0,
    bias: Bias = NO_BIAS,
    *,
    size: tuple[int, int],
    fov_mm: jax.Array | float = 140.0,
) -> tuple[jax.Array, jax.Array]:
    """Draws a postero-anterior radiograph of one knee and its mask; pure, works in `jit` and `vmap`.

    Nothing but `bias` can tell one group from another: the same key without bias is the same picture.

    Args:
        key: the patient's key; both knees of a patient share it, and with it most of their anatomy.
        knee: i32[], 0 the right knee, whose fibula is on the picture's left, or 1 the left one.
        bias: strengths of the switches.
        size: (H, W) of the picture.
        fov_mm: side of the square field of view; pixels are `fov_mm / size` mm.

    Returns:
        image u8[H, W] and label u8[H, W] of the scheme `knee`.
    """
    body, tissue = jax.random.split(key)
    own = jax.random.fold_in(key, 1 + jnp.asarray(knee))
    shape_key, wobble_key, pose_key, film_key, texture_key, noise_key = jax.random.split(own, 6)
    anatomy = shapes.draw_anatomy(body, shape_key, bias.morphology)
    outlines = shapes.contours(anatomy, wobble_key)
    look = render.draw_appearance(tissue, film_key, bias.contrast, bias.noise)

    # The pose turns the knee's frame into the picture's, and its inverse turns pixels back into
    # places in the knee.
    angle, shift_x, shift_y = jax.random.uniform(pose_key, (3,), minval=-1.0) * jnp.array([0.06, 5.0, 7.0])
    mirror = jnp.where(jnp.asarray(knee) == 1, 1.0, -1.0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.stack([jnp.stack([mirror * cos, mirror * sin]), jnp.stack([-sin, cos])])
    shift = jnp.stack([shift_x, shift_y])

    spacing = fov_mm / jnp.array(size, jnp.float32)
    y = (jnp.arange(size[0]) + 0.5) * spacing[0] - fov_mm / 2
    x = (jnp.arange(size[1]) + 0.5) * spacing[1] - fov_mm / 2
    distances = shapes.Contours(*(signed_distance(bone @ turn + shift, y, x) for bone in outlines))
    from_x, from_y = x[None, :] - shift_x, y[:, None] - shift_y
    at_x = turn[0, 0] * from_x + turn[0, 1] * from_y
    at_y = turn[1, 0] * from_x + turn[1, 1] * from_y

    rays = render.attenuation(distances, anatomy, look, at_y, at_x, spacing, texture_key)
    return render.expose(rays, look, spacing, noise_key), render.label_map(distances)
