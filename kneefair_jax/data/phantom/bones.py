"""Bones of varied films: their outlines, their inner structure, and the implants within their outlines.

A real femur is deeper at its condyles than between them, the rims of a plateau do not project onto each other, and
trabeculae of the femur cross the patella's edge. `thickness` changes how much bone a ray passes, but no outline.
`objects` draws what may lie anywhere in the beam.
"""

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom.objects import STEEL, uniform
from kneefair_jax.data.phantom.ranges import Settings
from kneefair_jax.data.phantom.render import Projection, smooth
from kneefair_jax.data.phantom.shapes import Anatomy, Contours

EDGE_MM = 0.5  # width of the edges that are drawn here
FAR_MM = 1e3  # outside of any contour
INSERT_MM = 8.0  # polyethylene between the components of a knee replacement, which lets the beam pass


def vary_anatomy(anatomy: Anatomy, variation: Settings) -> Anatomy:
    """Change the depth of the notch and shift patella and fibula."""
    return anatomy._replace(
        notch_depth=anatomy.notch_depth * variation["notch"],
        patella_rise=anatomy.patella_rise - variation["patella_drop_mm"],
        fibular_shift=anatomy.fibular_shift + variation["fibula_mm"],
        fibular_head_drop=anatomy.fibular_head_drop - variation["fibula_rise_mm"],
    )


def fit_insert(anatomy: Anatomy, variation: Settings) -> Anatomy:
    """Make room for the insert of a knee replacement as joint space, and remove the tibial spines."""
    has_replacement = variation["replacement"] > 0
    return anatomy._replace(
        spine_height=jnp.where(has_replacement, 0.0, anatomy.spine_height),
        joint_space=jnp.where(
            has_replacement, jnp.maximum(anatomy.joint_space, INSERT_MM), anatomy.joint_space
        ),
    )


def roughen(projection: Projection, variation: Settings, key: jax.Array) -> Projection:
    """Add small bumps to the outlines.

    The patella is hollow where the other bones bulge, so that their borders move apart and together.
    """
    scale = variation["bump_mm"] / projection.spacing
    femur, tibia, fibula, patella = projection.distances
    bumps = smooth(jax.random.normal(key, femur.shape), scale[0], scale[1])
    bumps = variation["bumps"] * variation["bump_mm"] * bumps
    return projection._replace(
        distances=Contours(femur + bumps, tibia + bumps, fibula + bumps, patella - bumps)
    )


def remove_fibula(distances: Contours, variation: Settings) -> Contours:
    """Move the fibula's contour out of the film where a film shows no fibula."""
    return distances._replace(fibula=jnp.where(variation["no_fibula"] > 0, -FAR_MM, distances.fibula))


def skew(x: jax.Array, asymmetry: jax.Array) -> jax.Array:
    """Scale places across the limb f32[H, W], mm, so that soft tissue is wider on the medial side by `asymmetry`."""
    return x / (1 - asymmetry * jnp.sign(x))


def thickness(projection: Projection, variation: Settings, key: jax.Array) -> Contours:
    """Return factors f32[H, W] on each bone's attenuation.

    Args:
        projection: the bones on the film.
        variation: a draw of `ranges.VARIED`.
        key: decides places within the bones.
    """
    distances, anatomy, y, x, spacing = projection
    lobe_key, wave_key, rim_key, fade_key = jax.random.split(key, 4)
    strands = 1 + jnp.maximum(variation["strands"], 0.0) * _strands(variation, y, x, spacing, wave_key)
    femur = _condyles(anatomy, variation, y, x, lobe_key)
    scar = jnp.maximum(variation["scar"], 0.0)
    femoral_plate = _line(y + anatomy.epicondyle_height + 4 - jnp.square(x) / 300, spacing)
    tibial_plate = _line(y - anatomy.joint_space - 15 - jnp.square(x) / 300, spacing)
    tibia = _plateau(distances.tibia, anatomy, variation, y, x, rim_key)
    patella = _patella(distances.patella, anatomy, variation, y, x, fade_key)
    return Contours(
        femur=femur * strands * (1 + scar * femoral_plate),
        tibia=tibia * strands * (1 + scar * tibial_plate),
        fibula=jnp.ones_like(x),
        patella=patella * (0.5 + 0.5 * strands),
    )


def _line(distance: jax.Array, spacing: jax.Array) -> jax.Array:
    """Return 1 on a line of some 2 mm, 0 beside it."""
    return jnp.exp(-jnp.square(distance / jnp.maximum(1.1, 0.7 * spacing.max())))


def _condyles(anatomy: Anatomy, variation: Settings, y: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
    """Return the femur's relative depth: condyles and trochlea are sharp-edged lobes, the roof of the notch is thin."""
    wall, margin = anatomy.notch_width / 2, anatomy.epicondylar_width / 2
    middle, half = 0.5 * (margin + wall), 0.5 * (margin - wall)
    notch, height = anatomy.notch_shift, anatomy.epicondyle_height
    jitter = jax.random.normal(key, (2, 3))
    across = jnp.stack([notch - middle, notch + middle, notch])
    across = across + 2.5 * jitter[0]
    down = jnp.stack([-0.7 * height, -0.7 * height, -1.25 * height]) + 3 * jitter[1]
    wide = jnp.stack([half, half, 0.55 * margin])
    high = jnp.stack([1.0 * height, 1.0 * height, 0.75 * height])
    gains = jnp.stack([variation["condyle_medial"], variation["condyle_lateral"], variation["trochlea"]])
    depth = jnp.ones_like(x)
    for center_x, center_y, a, b, gain in zip(across, down, wide, high, gains, strict=True):
        u, v = jnp.abs((x - center_x) / a), jnp.abs((y - center_y) / b)
        # The chord of a rounded block, which is as steep at its edge as projected surfaces are.
        chord = jnp.sqrt(jnp.sqrt(jnp.maximum(1 - u * u * u - v * v * v, 0.0)))
        depth += jnp.maximum(gain, 0.0) * chord
    width = 1.1 * wall
    dome = jnp.hypot((x - notch) / width, jnp.minimum(y, 0.0) / variation["roof_mm"])
    over = jax.nn.sigmoid((1 - dome) * width / EDGE_MM)
    return depth * (1 - jnp.maximum(variation["roof"], 0.0) * over)


def _plateau(
    depth: jax.Array, anatomy: Anatomy, variation: Settings, y: jax.Array, x: jax.Array, key: jax.Array
) -> jax.Array:
    """Return the tibia's relative depth, which is small between the plateau's front and rear rims."""
    slope, phase = jax.random.uniform(key, (2,))
    rim = variation["plateau_mm"] * (1 + 0.6 * jnp.sin(2 * jnp.pi * phase + (0.5 + slope) * x / 15))
    near = jax.nn.sigmoid((rim - depth) / EDGE_MM)
    upper = jax.nn.sigmoid((anatomy.joint_space + 14 - y) / 2)
    return 1 - jnp.maximum(variation["plateau"], 0.0) * near * upper


def _strands(
    variation: Settings, y: jax.Array, x: jax.Array, spacing: jax.Array, key: jax.Array
) -> jax.Array:
    """Return trabeculae as bent, broken waves f32[H, W] of mean 0, steep or slanting."""
    heading_key, bend_key = jax.random.split(key)
    slants = 0.6 * jax.random.normal(heading_key, (2,))
    bend = smooth(jax.random.normal(bend_key, x.shape), 6.0 / spacing[0], 6.0 / spacing[1])

    def wave(slant: jax.Array, length: jax.Array, bending: float) -> jax.Array:
        along = jnp.cos(slant) * x + jnp.sin(slant) * y
        return jnp.sin(2 * jnp.pi * along / length + bending * bend)

    length = variation["strand_mm"]
    visibility = jnp.exp(-jnp.square(2 * spacing.max() / length))  # pixels average over fine strands
    return visibility * wave(slants[0], length, 4) * (1 + wave(slants[1], 2.7 * length, 7))


def _patella(
    depth: jax.Array, anatomy: Anatomy, variation: Settings, y: jax.Array, x: jax.Array, key: jax.Array
) -> jax.Array:
    """Return the factor of a patella that is faint, fades towards one side and has a soft edge."""
    heading, place = jax.random.uniform(key, (2,))
    angle = 2 * jnp.pi * heading
    x, y = x - anatomy.patella_shift, y + anatomy.patella_rise
    along = jnp.cos(angle) * x + jnp.sin(angle) * y
    fading = jax.nn.sigmoid((along - (place - 0.3) * anatomy.patella_width / 2) / 4.0)
    edge = jnp.clip(depth / jnp.maximum(variation["patella_soft_mm"], 1e-3), 0.0, 1.0)
    faint, fade = jnp.maximum(variation["patella_faint"], 0.0), jnp.maximum(variation["patella_fade"], 0.0)
    return (1 - faint) * (1 - fade * fading) * edge


def implants(projection: Projection, variation: Settings, key: jax.Array) -> jax.Array:
    """Return the attenuation f32[H, W] of knee replacements, plates with screws, and nails; 0 outside the bones.

    Args:
        projection: the bones on the film.
        variation: a draw of `ranges.VARIED`.
        key: decides kinds and sizes.
    """
    distances, anatomy, y, x, _ = projection
    replacement_key, fixation_key = jax.random.split(key)
    lean = jnp.tan(jnp.deg2rad(anatomy.femoral_valgus))
    angle = jnp.deg2rad(anatomy.varus)
    plateau_y = y - anatomy.joint_space
    # The tibia's frame: across its axis, and down from its plateau.
    tibia_x = jnp.cos(angle) * x + jnp.sin(angle) * plateau_y
    tibia_y = jnp.cos(angle) * plateau_y - jnp.sin(angle) * x
    femur_x = x - lean * jnp.maximum(-y - anatomy.epicondyle_height, 0.0)
    metal = jnp.maximum(
        (variation["replacement"] > 0) * _replacement(y, x, tibia_y, tibia_x, distances, replacement_key),
        (variation["fixation"] > 0) * _fixation(y, femur_x, tibia_y, tibia_x, distances, fixation_key),
    )
    return STEEL * metal


def _replacement(
    y: jax.Array,
    x: jax.Array,
    tibia_y: jax.Array,
    tibia_x: jax.Array,
    distances: Contours,
    key: jax.Array,
) -> jax.Array:
    """Return the share of steel f32[H, W] of a femoral component and of a tibial tray with its stem and wings."""
    kind, flange, arch, tray, stem, wings = uniform(
        key, (0, 1), (16, 32), (-8, 8), (3, 6), (25, 60), (12, 24)
    )
    condyles = (distances.femur > 0) & (y > -flange - arch * jnp.cos(x / 14))
    plate = tibia_y < tray
    post = (jnp.abs(tibia_x) < 7 - 0.04 * tibia_y) & (tibia_y < stem)
    wing = jnp.abs(tibia_x) < wings - tibia_y
    tibial = (distances.tibia > 0) * jnp.where(plate, 1.0, jnp.where(post, 0.8, 0.4 * wing))
    # A total replacement, or a partial one of one compartment, which has no stem.
    is_partial = kind < 0.3
    side = jnp.where(kind < 0.2, x < -6, x > 6)
    compartment = side & (condyles | ((distances.tibia > 0) & plate))
    return jnp.where(is_partial, compartment, jnp.maximum(condyles, tibial))


def _fixation(
    y: jax.Array,
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
    is_femoral = bone < 0.5
    depth = jnp.where(is_femoral, distances.femur, distances.tibia)
    height = jnp.where(is_femoral, -y, tibia_y)  # from the joint
    across = jnp.where(is_femoral, femur_x, tibia_x) * jnp.sign(side)
    spans = (height > start) & (height < start + length)
    plate = spans & (across > 0) & (depth < 1.2 * thickness)
    screws = spans & (jnp.mod(height - start + slope * across, pitch) < thickness) & (across > -15)
    nail = (height > start) & (jnp.abs(across) < thickness + 2)
    return (depth > 0) * jnp.where(kind < 0.65, jnp.maximum(plate * 0.8, screws * 1.0), nail * 1.0)
