"""Knee replacements, plates with screws, and nails: parts of the bones, within their outlines.

What lies anywhere in the beam is in `objects`.
"""

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom.objects import STEEL, uniform
from kneefair_jax.data.phantom.ranges import Settings
from kneefair_jax.data.phantom.shapes import Anatomy, Contours

INSERT_MM = 8.0  # polyethylene between the components, which lets the beam pass


def fitted(anatomy: Anatomy, varied: Settings) -> Anatomy:
    """Return the anatomy with the insert of a knee replacement as joint space and without tibial spines."""
    replaced = varied["replacement"] > 0
    return anatomy._replace(
        spine_height=jnp.where(replaced, 0.0, anatomy.spine_height),
        joint_space=jnp.where(replaced, jnp.maximum(anatomy.joint_space, INSERT_MM), anatomy.joint_space),
    )


def attenuation(
    distances: Contours, anatomy: Anatomy, varied: Settings, at_y: jax.Array, at_x: jax.Array, key: jax.Array
) -> jax.Array:
    """Return the attenuation f32[H, W] of the implants that the settings ask for; 0 outside of femur and tibia.

    Args:
        distances: signed distances to the bones' contours, f32[H, W] each, mm.
        anatomy: the knee's lengths.
        varied: a draw of `ranges.VARIED`.
        at_y: f32[H, W], height of each pixel in the knee's frame, mm downwards.
        at_x: f32[H, W], place of each pixel in the knee's frame, mm to the lateral side.
        key: decides kinds and sizes.
    """
    replacement_key, fixation_key = jax.random.split(key)
    lean = jnp.tan(jnp.deg2rad(anatomy.femoral_valgus))
    angle = jnp.deg2rad(anatomy.varus)
    below = at_y - anatomy.joint_space
    # The tibia's own frame: across its axis, and down from its plateau.
    tibia_x = jnp.cos(angle) * at_x + jnp.sin(angle) * below
    tibia_y = jnp.cos(angle) * below - jnp.sin(angle) * at_x
    femur_x = at_x - lean * jnp.maximum(-at_y - anatomy.epicondyle_height, 0.0)
    metal = jnp.maximum(
        (varied["replacement"] > 0) * _replacement(at_y, at_x, tibia_y, tibia_x, distances, replacement_key),
        (varied["fixation"] > 0) * _fixation(at_y, femur_x, tibia_y, tibia_x, distances, fixation_key),
    )
    return STEEL * metal


def _replacement(
    at_y: jax.Array,
    at_x: jax.Array,
    tibia_y: jax.Array,
    tibia_x: jax.Array,
    distances: Contours,
    key: jax.Array,
) -> jax.Array:
    """Return the share of steel f32[H, W] of a femoral component and of a tibial tray with its stem and wings."""
    kind, flange, arch, tray, stem, wings = uniform(
        key, (0, 1), (16, 32), (-8, 8), (3, 6), (25, 60), (12, 24)
    )
    condyles = (distances.femur > 0) & (at_y > -flange - arch * jnp.cos(at_x / 14))
    plate = tibia_y < tray
    post = (jnp.abs(tibia_x) < 7 - 0.04 * tibia_y) & (tibia_y < stem)
    wing = jnp.abs(tibia_x) < wings - tibia_y
    tibial = (distances.tibia > 0) * jnp.where(plate, 1.0, jnp.where(post, 0.8, 0.4 * wing))
    # Both compartments, or one of them, which needs no stem.
    partial = kind < 0.3
    side = jnp.where(kind < 0.2, at_x < -6, at_x > 6)
    one = side & (condyles | ((distances.tibia > 0) & plate))
    return jnp.where(partial, one, jnp.maximum(condyles, tibial))


def _fixation(
    at_y: jax.Array,
    femur_x: jax.Array,
    tibia_y: jax.Array,
    tibia_x: jax.Array,
    distances: Contours,
    key: jax.Array,
) -> jax.Array:
    """Return the share of steel f32[H, W] of a plate with screws at femur or tibia, or of a nail in the canal."""
    bone, kind, start, length, pitch, thickness, slope, side = uniform(
        key, (0, 1), (0, 1), (5, 20), (25, 110), (9, 20), (2.5, 5), (-0.3, 0.3), (-1, 1)
    )
    in_femur = bone < 0.5
    depth = jnp.where(in_femur, distances.femur, distances.tibia)
    away = jnp.where(in_femur, -at_y, tibia_y)  # from the joint
    across = jnp.where(in_femur, femur_x, tibia_x) * jnp.sign(side)
    spans = (away > start) & (away < start + length)
    plate = spans & (across > 0) & (depth < 1.2 * thickness)
    screws = spans & (jnp.mod(away - start + slope * across, pitch) < thickness) & (across > -15)
    nail = (away > start) & (jnp.abs(across) < thickness + 2)
    return (depth > 0) * jnp.where(kind < 0.65, jnp.maximum(plate * 0.8, screws * 1.0), nail * 1.0)
