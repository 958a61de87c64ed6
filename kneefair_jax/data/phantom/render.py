"""From contours to a radiograph: how much bone and soft tissue each ray passes, and what the detector shows.

A bone is a rounded solid: a ray that enters at depth d inside its contour passes the chord of a circle whose
radius is half the bone's depth. The same chord, a cortex further in, is cancellous bone; what is between the
two is cortical. This alone draws the bright walls of a shaft, its dark canal and an epiphysis' thin rim.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom.curves import blur
from kneefair_jax.data.phantom.shapes import Anatomy, Contours

# Attenuation per mm at a radiograph's energies; bone's is what it adds to the soft tissue that it displaces.
SOFT = 0.021
CORTICAL = 0.060
CANCELLOUS = 0.018  # of an epiphysis
MARROW = 0.004  # of a shaft's canal

# Half the depth of each bone along the beam, in mm.
DEPTH = {"femur": 18.0, "tibia": 17.0, "fibula": 7.0, "patella": 6.5}


class Appearance(NamedTuple):
    """What differs between films besides the bones' outlines; f32[] each."""

    mineral: jax.Array  # factor on the bones' attenuation
    shaft_cortex: jax.Array  # thickness of a shaft's wall, mm
    limb: jax.Array  # half width of the limb at the joint, mm
    limb_shift: jax.Array  # of the limb's axis from the joint's centre, mm
    texture: jax.Array  # relative amplitude of the trabecular pattern
    latitude: jax.Array  # attenuation from black to white
    level: jax.Array  # attenuation of black, relative to the soft tissue at the limb's axis
    gamma: jax.Array
    blur_mm: jax.Array  # standard deviation of focal spot and screen
    photons: jax.Array  # per mm2 behind the limb's axis


def draw_appearance(
    patient: jax.Array, film: jax.Array, contrast: jax.Array | float, noise: jax.Array | float
) -> Appearance:
    """Draws the patient's tissues and a film's settings.

    Args:
        patient: the key that the patient's knees share.
        film: the key of this picture.
        contrast: f32[] in [0, 1]; at 1 the bones hold 55 % less mineral.
        noise: f32[] in [0, 1]; at 1 the noise is five times as strong.
    """

    def between(key: jax.Array, lows: list[float], highs: list[float]) -> jax.Array:
        return jax.random.uniform(key, (len(lows),), minval=jnp.array(lows), maxval=jnp.array(highs))

    mineral, cortex, limb, texture = between(patient, [0.85, 3.0, 54, 0.04], [1.2, 5.5, 84, 0.14])
    shift, latitude, level, gamma, blur_mm, dose = between(
        film, [-5, 2.3, -1.3, 0.8, 0.15, 5.7], [5, 3.0, -0.7, 1.3, 0.5, 7.2]
    )
    return Appearance(
        mineral=mineral * (1 - 0.55 * contrast),
        shaft_cortex=cortex,
        limb=limb,
        limb_shift=shift,
        texture=texture,
        latitude=latitude,
        level=level,
        gamma=gamma,
        blur_mm=blur_mm,
        photons=jnp.exp(dose) / (1 + 4 * noise) ** 2,
    )


def label_map(distances: Contours) -> jax.Array:
    """Signed distances f32[H, W] -> u8[H, W] of the scheme `knee`; what lies in front hides the rest.

    A pixel belongs to a bone when its centre does.
    """
    label = jnp.zeros(distances.femur.shape, jnp.uint8)
    for name in ("fibula", "tibia", "femur", "patella"):
        value = 1 + Contours._fields.index(name)
        label = jnp.where(getattr(distances, name) > 0, jnp.uint8(value), label)
    return label


def _chord(depth: jax.Array, radius: jax.Array | float) -> jax.Array:
    """Path through a body rounded with `radius` at `depth` inside its contour; 0 outside; all in mm."""
    inside = jnp.clip(depth, 0.0, radius)
    return 2 * jnp.sqrt(inside * (2 * radius - inside))


def _bumps(key: jax.Array, shape: tuple[int, ...], sigma_y: jax.Array, sigma_x: jax.Array) -> jax.Array:
    """Smooth noise f32[H, W] of mean 0 and standard deviation 1; sigmas in pixels."""
    field = blur(jax.random.normal(key, shape), sigma_y, sigma_x)
    return (field - field.mean()) / (field.std() + 1e-6)


def attenuation(
    distances: Contours,
    anatomy: Anatomy,
    look: Appearance,
    at_y: jax.Array,
    at_x: jax.Array,
    spacing: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Line integrals of attenuation through the limb.

    Args:
        distances: signed distances to the bones' contours, f32[H, W] each, mm.
        anatomy: the knee's lengths.
        look: the film's appearance.
        at_y: f32[H, W], height of each pixel in the knee's frame, mm downwards.
        at_x: f32[H, W], place of each pixel in the knee's frame, mm to the lateral side.
        spacing: f32[2], mm per pixel down and across.
        key: decides the texture.

    Returns:
        f32[H, W], dimensionless.
    """
    coarse, fine = jax.random.split(key)
    shape = at_y.shape
    # Trabeculae run along the bone; what a film shows of them is some mm long and under a mm wide.
    grain = _bumps(fine, shape, 1.3 / spacing[0], 0.4 / spacing[1])
    clouds = _bumps(coarse, shape, 7.0 / spacing[0], 7.0 / spacing[1])
    pattern = 1 + look.texture * (grain + 0.6 * clouds)

    height = jnp.abs(at_y - 0.5 * anatomy.joint_space)  # from the joint line
    shaft = jax.nn.sigmoid((height - 47.0) / 7.0)  # 0 in an epiphysis, 1 in a shaft
    subchondral = jnp.exp(-jnp.square(height / 7.0))
    cancellous = (CANCELLOUS + (MARROW - CANCELLOUS) * shaft) * pattern
    walls = Contours(
        femur=0.7 + look.shaft_cortex * shaft + 0.7 * subchondral,
        tibia=0.7 + look.shaft_cortex * shaft + 1.3 * subchondral,
        fibula=jnp.full(shape, 0.8) + 0.4 * look.shaft_cortex * shaft,
        patella=jnp.full(shape, 0.6),
    )
    # Behind the notch the femur is hollow.
    hollow = jnp.exp(
        -jnp.square(at_x / (0.55 * anatomy.notch_width)) - jnp.square((at_y + anatomy.notch_depth + 3) / 11.0)
    )
    porous = Contours(cancellous * (1 - 0.55 * hollow), cancellous, cancellous, 0.9 * cancellous)

    bone = jnp.zeros(shape)
    for distance, wall, spongy, radius in zip(distances, walls, porous, DEPTH.values(), strict=True):
        inner = _chord(distance - wall, radius - wall)
        bone += CORTICAL * (_chord(distance, radius) - inner) + spongy * inner

    # The thigh widens upwards faster than the calf downwards.
    limb = look.limb + 0.15 * jnp.maximum(-at_y, 0) + 0.06 * jnp.maximum(at_y, 0)
    inside = jnp.maximum(1 - jnp.abs((at_x - look.limb_shift) / limb) ** 2.5, 0)
    soft = 2 * SOFT * look.limb * jnp.sqrt(inside) * (1 + 0.03 * clouds)
    return soft + look.mineral * bone


def expose(rays: jax.Array, look: Appearance, spacing: jax.Array, key: jax.Array) -> jax.Array:
    """What the film shows of line integrals: blur, quantum noise, window.

    The count behind attenuation A in a pixel is about Poisson of mean n = photons * area * exp(-A), so its
    logarithm, which a film shows, has the standard deviation 1 / sqrt(n).

    Args:
        rays: f32[H, W], line integrals of attenuation.
        look: the film's appearance.
        spacing: f32[2], mm per pixel down and across.
        key: decides the noise.

    Returns:
        u8[H, W]; bone is bright and air is black.
    """
    # A pixel averages over its area: a box of width 1 has the variance 1/12.
    sigma = jnp.sqrt(jnp.square(look.blur_mm / spacing) + 1 / 12)
    rays = blur(rays, sigma[0], sigma[1])
    beyond = rays - 2 * SOFT * look.limb
    mean_count = look.photons * spacing[0] * spacing[1] * jnp.exp(-beyond)
    noisy = beyond + jax.random.normal(key, rays.shape) / jnp.sqrt(mean_count)
    grey = jnp.clip((noisy - look.level) / look.latitude, 0.0, 1.0) ** look.gamma
    return jnp.round(255 * grey).astype(jnp.uint8)
