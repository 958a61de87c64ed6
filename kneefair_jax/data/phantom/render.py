"""Projection of a knee to a film: its place among the pixels, and line integrals of attenuation along the rays.

A bone is a rounded solid: a ray at depth d inside its contour passes the chord of a circle whose radius is half the
bone's depth. The same chord, a cortex further in, is cancellous bone; the rest of the path is cortical. This alone
draws the bright walls of a shaft, its dark canal and the thin rim of an epiphysis.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.anatomy import OVERLAPS, SCHEMES
from kneefair_jax.data.phantom.ranges import Settings
from kneefair_jax.data.phantom.shapes import Anatomy, Contours

# Attenuation per mm at a radiograph's energies; of bone, the excess over the soft tissue that it displaces.
SOFT = 0.021
FAT = 0.018
CORTICAL = 0.060
CANCELLOUS = 0.018  # of an epiphysis
MARROW = 0.004  # of a shaft's canal

# Half the depth of each bone along the beam, in mm.
DEPTH = {"femur": 18.0, "tibia": 17.0, "fibula": 7.0, "patella": 6.5}

EDGE_MM = (60.0, 18.0)  # distance of a tight crop's edge from the knee's middle
STRIP_MM = (120.0, 45.0)  # half width of a limb's strip
MAX_SHIFT = 0.25  # largest shift of the knee by a tight crop, as a share of the film's width


class View(NamedTuple):
    """A film's pixels and a knee's place among them.

    Attributes:
        spacing: f32[2], mm per pixel down and across.
        y: f32[H], the rows' places on the film, mm from its center.
        x: f32[W], the columns' places, mm from its center.
        turn: f32[2, 2]; `points @ turn + shift` maps the knee's frame to the film's.
        shift: f32[2], (x, y) mm.
    """

    spacing: jax.Array
    y: jax.Array
    x: jax.Array
    turn: jax.Array
    shift: jax.Array

    def to_film(self, points: jax.Array) -> jax.Array:
        """Map places f32[V, 2] from the knee's frame to the film, mm."""
        return points @ self.turn + self.shift

    def in_knee(self) -> tuple[jax.Array, jax.Array]:
        """Return the pixels' places in the knee's frame: y and x, f32[H, W] each, mm."""
        from_x, from_y = self.x[None, :] - self.shift[0], self.y[:, None] - self.shift[1]
        at_x = self.turn[0, 0] * from_x + self.turn[0, 1] * from_y
        at_y = self.turn[1, 0] * from_x + self.turn[1, 1] * from_y
        return at_y, at_x


def strip(view: View, strength: jax.Array | float) -> jax.Array:
    """Return the columns bool[W] of a strip around the knee, narrower with strength; all columns for strengths <= 0."""
    return (strength <= 0) | (jnp.abs(view.x - view.shift[0]) < _between(STRIP_MM, strength))


def _between(ends: tuple[float, float], place: jax.Array | float) -> jax.Array | float:
    return ends[0] + place * (ends[1] - ends[0])


def place_knee(
    settings: Settings,
    left: jax.Array | bool,
    *,
    size: tuple[int, int],
    fov_mm: jax.Array | float,
    offset_mm: jax.Array | float = 0.0,
    crop: jax.Array | float | None = None,
) -> View:
    """Place a knee on a film.

    Args:
        settings: a draw of `ranges.VIEW`.
        left: whether it is the left knee, with the fibula on the film's right.
        size: (H, W) of the film.
        fov_mm: height of the film; its width follows from the size and the aspect.
        offset_mm: shift of the knee to the film's right, for bilateral films.
        crop: above 0, the film's lateral edge lies `EDGE_MM[0]` (at 0) to `EDGE_MM[1]` (at 1) from the knee's middle.
    """
    aspect = jnp.exp2(settings["aspect"])
    spacing = fov_mm / size[0] * jnp.stack([1 / jnp.sqrt(aspect), jnp.sqrt(aspect)])
    extent = spacing * jnp.array(size, jnp.float32)
    y = (jnp.arange(size[0]) + 0.5) * spacing[0] - extent[0] / 2
    x = (jnp.arange(size[1]) + 0.5) * spacing[1] - extent[1] / 2
    angle = jnp.deg2rad(settings["turn"])
    mirror = jnp.where(left, 1.0, -1.0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.stack([jnp.stack([mirror * cos, mirror * sin]), jnp.stack([-sin, cos])])
    across = settings["across"] * extent[1]
    if crop is not None:
        crop_shift = jnp.minimum(extent[1] / 2 - _between(EDGE_MM, crop), MAX_SHIFT * extent[1])
        across = jnp.where(crop > 0, mirror * crop_shift, across)
    shift = jnp.stack([across + offset_mm, settings["down"] * extent[0]])
    return View(spacing, y, x, turn, shift)


class Projection(NamedTuple):
    """A knee's bones as they lie on the film.

    Attributes:
        distances: signed distances to the bones' contours, f32[H, W] each, mm, positive inside.
        anatomy: the knee's lengths.
        y: f32[H, W], height of each pixel in the knee's frame, mm downwards.
        x: f32[H, W], place of each pixel in the knee's frame, mm to the lateral side.
        spacing: f32[2], mm per pixel down and across.
    """

    distances: Contours
    anatomy: Anatomy
    y: jax.Array
    x: jax.Array
    spacing: jax.Array


def label_map(
    distances: Contours, outwards_mm: jax.Array | float = 0.0, *, overlaps: bool = False
) -> jax.Array:
    """Return the label map u8[H, W] of the scheme `knee` or `knee_overlaps`; a bone in front hides those behind it.

    A pixel belongs to a bone if its center lies inside the contour, or at most `outwards_mm` outside.

    Args:
        distances: signed distances to the bones' contours, f32[H, W] each, mm.
        outwards_mm: how far outside the contours an annotator draws.
        overlaps: whether pixels of both bones of a pair of `anatomy.OVERLAPS` have a class of their own, where no other
            bone hides the two.
    """
    inside = {name: getattr(distances, name) > -outwards_mm for name in Contours._fields}
    names = SCHEMES["knee_overlaps"]
    label = jnp.zeros(distances.femur.shape, jnp.uint8)
    for name in ("fibula", "tibia", "femur", "patella"):
        label = jnp.where(inside[name], jnp.uint8(1 + names.index(name)), label)
    if overlaps:
        for overlap, (front, back) in OVERLAPS.items():
            is_overlap = (label == 1 + names.index(front)) & inside[back]
            label = jnp.where(is_overlap, jnp.uint8(1 + names.index(overlap)), label)
    return label


def chord(depth: jax.Array, radius: jax.Array | float) -> jax.Array:
    """Return the path through a body rounded with `radius` at `depth` inside its contour; 0 outside; all in mm."""
    depth = jnp.clip(depth, 0.0, radius)
    return 2 * jnp.sqrt(depth * (2 * radius - depth))


def blur(image: jax.Array, sigma_y: jax.Array | float, sigma_x: jax.Array | float) -> jax.Array:
    """Blur f32[H, W] by a Gaussian, as two matrix products; sigmas in pixels may be traced.

    The weights within the image add up to one, so that its borders do not darken.
    """

    def weights(count: int, sigma: jax.Array | float) -> jax.Array:
        at = jnp.arange(count, dtype=jnp.float32)
        kernel = jnp.exp(-0.5 * ((at[:, None] - at[None, :]) / jnp.maximum(sigma, 1e-3)) ** 2)
        return kernel / kernel.sum(axis=1, keepdims=True)

    height, width = image.shape
    return weights(height, sigma_y) @ image @ weights(width, sigma_x).T


def smooth(white: jax.Array, sigma_y: jax.Array | float, sigma_x: jax.Array | float) -> jax.Array:
    """Smooth white noise f32[H, W] to mean 0 and standard deviation 1; sigmas in pixels."""
    field = blur(white, sigma_y, sigma_x)
    return (field - field.mean()) / (field.std() + 1e-6)


def bone(
    projection: Projection,
    sclerosis: jax.Array,
    patient: Settings,
    film: Settings,
    key: jax.Array,
    thickness: Contours | None = None,
) -> jax.Array:
    """Integrate attenuation through the bones of one knee, in excess of the soft tissue that they displace.

    Args:
        projection: the bones on the film.
        sclerosis: f32[], factor on the dense bone under the cartilage.
        patient: a draw of `ranges.PATIENT`.
        film: a draw of `ranges.FILM`.
        key: decides the texture.
        thickness: factors f32[H, W] on each bone's attenuation (`bones.thickness`); None for 1 everywhere.

    Returns:
        f32[H, W], dimensionless.
    """
    distances, anatomy, y, x, spacing = projection
    shape = y.shape
    fine, coarse = jax.random.normal(key, (2, *shape))
    # Trabeculae run along the bone; on a film they are some mm long and under a mm wide.
    grain = smooth(fine, 1.3 / spacing[0], 0.4 / spacing[1])
    clouds = smooth(coarse, film["cloud_mm"] / spacing[0], film["cloud_mm"] / spacing[1])
    pattern = jnp.maximum(1 + patient["texture"] * (grain + film["clouds"] * clouds), 0.0)

    height = jnp.abs(y - 0.5 * anatomy.joint_space)  # from the joint line
    shaft = jax.nn.sigmoid((height - 47.0) / 7.0)  # 0 in an epiphysis, 1 in a shaft
    dense = sclerosis * jnp.exp(-jnp.square(height / 7.0))
    cancellous = (CANCELLOUS + (MARROW - CANCELLOUS) * shaft) * pattern
    cortex = patient["shaft_cortex"] * shaft
    walls = Contours(
        femur=patient["rim"] + cortex + 0.7 * dense,
        tibia=patient["rim"] + cortex + 1.3 * dense,
        fibula=patient["rim"] + 0.4 * cortex,
        patella=jnp.full(shape, patient["rim"]),
    )
    # Behind the notch the femur is hollow.
    hollow = jnp.exp(
        -jnp.square((x - anatomy.notch_shift) / (0.55 * anatomy.notch_width))
        - jnp.square((y + anatomy.notch_depth + 3) / 11.0)
    )
    porous = Contours(cancellous * (1 - 0.55 * hollow), cancellous, cancellous, 0.9 * cancellous)

    # A wall thinner than a pixel is drawn one pixel wide and proportionally fainter; sampling would break it up.
    min_wall = 0.7 * spacing.max()
    total = jnp.zeros(shape)
    for name, distance, wall, spongy in zip(Contours._fields, distances, walls, porous, strict=True):
        radius = DEPTH[name] * film["depth"]
        visible_wall = jnp.minimum(jnp.maximum(wall, min_wall), 0.9 * radius)
        compact = spongy + (CORTICAL - spongy) * jnp.minimum(wall / visible_wall, 1.0)
        core = chord(distance - visible_wall, radius - visible_wall)
        path = compact * (chord(distance, radius) - core) + spongy * core
        total += film[name] * (path if thickness is None else path * getattr(thickness, name))
    return patient["mineral"] * total


def soft_tissue(projection: Projection, patient: Settings, film: Settings, key: jax.Array) -> jax.Array:
    """Integrate attenuation through one limb without its bones, f32[H, W]: muscle within fat within air.

    Arguments as for `bone`.
    """
    y, x, spacing = projection.y, projection.x, projection.spacing
    clouds = smooth(jax.random.normal(key, y.shape), 8.0 / spacing[0], 8.0 / spacing[1])
    # The thigh widens upwards faster than the calf downwards, up to a point.
    up, down = (jnp.tanh(jnp.maximum(height, 0) / 150.0) * 150.0 for height in (-y, y))
    widening = 0.15 * up + 0.06 * down
    limb = patient["limb"] + widening
    muscle = limb * (1 - patient["fat"])

    def body(half_width: jax.Array) -> jax.Array:
        ellipse = jnp.maximum(1 - jnp.abs((x - film["limb_shift"]) / half_width) ** 2.5, 0)
        return 2 * half_width * jnp.sqrt(ellipse)

    flesh = body(muscle) * (1 + 0.03 * clouds)
    # Away from the joint the limb is wider but hardly deeper.
    scale = patient["limb"] / limb
    return film["soft"] * scale * (SOFT * flesh + FAT * (body(limb) - body(muscle)))


def axis_attenuation(patient: Settings, film: Settings) -> jax.Array:
    """Return the value f32[] of `soft_tissue` at the limb's axis at the height of the joint."""
    fat = patient["fat"]
    return film["soft"] * 2 * patient["limb"] * (SOFT * (1 - fat) + FAT * fat)
