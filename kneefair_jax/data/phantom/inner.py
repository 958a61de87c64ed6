"""The inner structure of the bones on varied films: condyles, notch, plateau, strands, scars, a weak patella.

A real femur is deeper at its condyles than between them, the rims of a plateau do not project onto each other, and
trabeculae of the femur cross the patella's edge. `thickness` changes how much bone a ray passes, and no outline.
"""

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom.ranges import Settings
from kneefair_jax.data.phantom.render import smooth
from kneefair_jax.data.phantom.shapes import Anatomy, Contours

EDGE_MM = 0.5  # width of the edges that are drawn here


def posed(anatomy: Anatomy, varied: Settings) -> Anatomy:
    """Return the anatomy with another notch depth, and with patella and fibula moved."""
    return anatomy._replace(
        notch_depth=anatomy.notch_depth * varied["notch"],
        patella_rise=anatomy.patella_rise - varied["patella_drop_mm"],
        fibular_shift=anatomy.fibular_shift + varied["fibula_mm"],
        fibular_head_drop=anatomy.fibular_head_drop - varied["fibula_rise_mm"],
    )


def roughened(distances: Contours, varied: Settings, spacing: jax.Array, key: jax.Array) -> Contours:
    """Return signed distances f32[H, W], mm, to outlines with small bumps.

    Where the other bones bulge the patella is hollow, so that their borders move apart and together.
    """
    scale = varied["bump_mm"] / spacing
    bumps = smooth(jax.random.normal(key, distances.femur.shape), scale[0], scale[1])
    bumps = varied["bumps"] * varied["bump_mm"] * bumps
    femur, tibia, fibula, patella = distances
    return Contours(femur + bumps, tibia + bumps, fibula + bumps, patella - bumps)


def skewed(at_x: jax.Array, asymmetry: jax.Array) -> jax.Array:
    """Scale places across the limb f32[H, W], mm, so that soft tissue is wider on the medial side by `asymmetry`."""
    return at_x / (1 - asymmetry * jnp.sign(at_x))


def thickness(
    distances: Contours,
    anatomy: Anatomy,
    varied: Settings,
    at_y: jax.Array,
    at_x: jax.Array,
    spacing: jax.Array,
    key: jax.Array,
) -> Contours:
    """Return factors f32[H, W] on each bone's attenuation.

    Args:
        distances: signed distances to the bones' contours, f32[H, W] each, mm.
        anatomy: the knee's lengths.
        varied: a draw of `ranges.VARIED`.
        at_y: f32[H, W], height of each pixel in the knee's frame, mm downwards.
        at_x: f32[H, W], place of each pixel in the knee's frame, mm to the lateral side.
        spacing: f32[2], mm per pixel down and across.
        key: decides places within the bones.
    """
    lobe_key, wave_key, rim_key, fade_key = jax.random.split(key, 4)
    strands = 1 + jnp.maximum(varied["strands"], 0.0) * _strands(varied, at_y, at_x, spacing, wave_key)
    femur = _condyles(anatomy, varied, at_y, at_x, lobe_key)
    scar = jnp.maximum(varied["scar"], 0.0)
    above = _line(at_y + anatomy.epicondyle_height + 4 - jnp.square(at_x) / 300, spacing)
    below = _line(at_y - anatomy.joint_space - 15 - jnp.square(at_x) / 300, spacing)
    tibia = _plateau(distances.tibia, anatomy, varied, at_y, at_x, rim_key)
    return Contours(
        femur=femur * strands * (1 + scar * above),
        tibia=tibia * strands * (1 + scar * below),
        fibula=jnp.ones_like(at_x),
        patella=_patella(distances.patella, anatomy, varied, at_y, at_x, fade_key) * (0.5 + 0.5 * strands),
    )


def _line(distance: jax.Array, spacing: jax.Array) -> jax.Array:
    """Return 1 on a line of some 2 mm, 0 beside it."""
    return jnp.exp(-jnp.square(distance / jnp.maximum(1.1, 0.7 * spacing.max())))


def _condyles(
    anatomy: Anatomy, varied: Settings, at_y: jax.Array, at_x: jax.Array, key: jax.Array
) -> jax.Array:
    """Return the femur's depth: condyles and trochlea are lobes with sharp edges, and the roof of the notch is thin."""
    wall, margin = anatomy.notch_width / 2, anatomy.epicondylar_width / 2
    middle, half = 0.5 * (margin + wall), 0.5 * (margin - wall)
    notch, height = anatomy.notch_shift, anatomy.epicondyle_height
    jitter = jax.random.normal(key, (2, 3))
    across = jnp.stack([notch - middle, notch + middle, notch])
    across = across + 2.5 * jitter[0]
    down = jnp.stack([-0.7 * height, -0.7 * height, -1.25 * height]) + 3 * jitter[1]
    wide = jnp.stack([half, half, 0.55 * margin])
    high = jnp.stack([1.0 * height, 1.0 * height, 0.75 * height])
    gains = jnp.stack([varied["condyle_medial"], varied["condyle_lateral"], varied["trochlea"]])
    depth = jnp.ones_like(at_x)
    for x, y, a, b, gain in zip(across, down, wide, high, gains, strict=True):
        u, v = jnp.abs((at_x - x) / a), jnp.abs((at_y - y) / b)
        inside = jnp.maximum(1 - u * u * u - v * v * v, 0.0)
        # A rounded block's chord, as steep at its edge as on projected surfaces.
        depth += jnp.maximum(gain, 0.0) * jnp.sqrt(jnp.sqrt(inside))
    width = 1.1 * wall
    dome = jnp.hypot((at_x - notch) / width, jnp.minimum(at_y, 0.0) / varied["roof_mm"])
    over = jax.nn.sigmoid((1 - dome) * width / EDGE_MM)
    return depth * (1 - jnp.maximum(varied["roof"], 0.0) * over)


def _plateau(
    depth: jax.Array, anatomy: Anatomy, varied: Settings, at_y: jax.Array, at_x: jax.Array, key: jax.Array
) -> jax.Array:
    """Return the tibia's depth, which is small between the plateau's front and rear rims."""
    slope, phase = jax.random.uniform(key, (2,))
    rim = varied["plateau_mm"] * (1 + 0.6 * jnp.sin(2 * jnp.pi * phase + (0.5 + slope) * at_x / 15))
    near = jax.nn.sigmoid((rim - depth) / EDGE_MM)
    upper = jax.nn.sigmoid((anatomy.joint_space + 14 - at_y) / 2)
    return 1 - jnp.maximum(varied["plateau"], 0.0) * near * upper


def _strands(
    varied: Settings, at_y: jax.Array, at_x: jax.Array, spacing: jax.Array, key: jax.Array
) -> jax.Array:
    """Return trabeculae as bent, broken waves f32[H, W] of mean 0, steep or slanting."""
    heading_key, bend_key = jax.random.split(key)
    slants = 0.6 * jax.random.normal(heading_key, (2,))
    bend = smooth(jax.random.normal(bend_key, at_x.shape), 6.0 / spacing[0], 6.0 / spacing[1])

    def wave(slant: jax.Array, length: jax.Array, bending: float) -> jax.Array:
        along = jnp.cos(slant) * at_x + jnp.sin(slant) * at_y
        return jnp.sin(2 * jnp.pi * along / length + bending * bend)

    seen = jnp.exp(-jnp.square(2 * spacing.max() / varied["strand_mm"]))  # pixels average over fine ones
    return (
        seen * wave(slants[0], varied["strand_mm"], 4) * (1 + wave(slants[1], 2.7 * varied["strand_mm"], 7))
    )


def _patella(
    depth: jax.Array, anatomy: Anatomy, varied: Settings, at_y: jax.Array, at_x: jax.Array, key: jax.Array
) -> jax.Array:
    """Return the factor of a patella that is faint, fades towards one side and has a soft edge."""
    heading, place = jax.random.uniform(key, (2,))
    angle = 2 * jnp.pi * heading
    x, y = at_x - anatomy.patella_shift, at_y + anatomy.patella_rise
    along = jnp.cos(angle) * x + jnp.sin(angle) * y
    fading = jax.nn.sigmoid((along - (place - 0.3) * anatomy.patella_width / 2) / 4.0)
    edge = jnp.clip(depth / jnp.maximum(varied["patella_soft_mm"], 1e-3), 0.0, 1.0)
    faint, fade = jnp.maximum(varied["patella_faint"], 0.0), jnp.maximum(varied["patella_fade"], 0.0)
    return (1 - faint) * (1 - fade * fading) * edge
