"""The bones of a knee as contours in millimeters, from a few named anatomical lengths.

Frame: x grows to the lateral side (the fibula's), y grows downwards; the origin lies between the condyles, at their
lowest level. Femur, tibia and fibula extend far beyond any image, so that no image shows a cut end.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline


class Anatomy(NamedTuple):
    """The lengths and angles of a knee, by default of a typical one; f32[] each, mm and degrees."""

    epicondylar_width: jax.Array | float = 82
    epicondyle_height: jax.Array | float = 27  # above the condyles' lowest level
    notch_width: jax.Array | float = 20
    notch_depth: jax.Array | float = 14
    notch_shift: jax.Array | float = 0  # to the lateral side
    femoral_shaft_width: jax.Array | float = 31
    femoral_flare: jax.Array | float = 31  # from the epicondyles up to the shaft
    femoral_valgus: jax.Array | float = 5  # the shaft leans to the lateral side on its way up
    joint_space: jax.Array | float = 5
    plateau_width: jax.Array | float = 79
    spine_height: jax.Array | float = 8
    tibial_shaft_width: jax.Array | float = 30
    tibial_flare: jax.Array | float = 46  # from the plateau down to the shaft
    varus: jax.Array | float = 0  # inward rotation of the tibia, which opens the joint laterally
    fibular_head_width: jax.Array | float = 23
    fibular_neck_width: jax.Array | float = 13
    fibular_head_drop: jax.Array | float = 12  # below the plateau
    fibular_shift: jax.Array | float = 0  # of the whole bone, to the lateral side
    patella_width: jax.Array | float = 44
    patella_height: jax.Array | float = 41
    patella_rise: jax.Array | float = 35  # height of its center above the condyles' lowest level
    patella_shift: jax.Array | float = 3  # of its center, to the lateral side
    spur_femur_medial: jax.Array | float = 0  # protrusion of the osteophytes
    spur_femur_lateral: jax.Array | float = 0
    spur_tibia_medial: jax.Array | float = 0
    spur_tibia_lateral: jax.Array | float = 0


class Contours(NamedTuple):
    """Polygons of the four bones, f32[V, 2] each, vertices (x, y) in mm."""

    femur: jax.Array
    tibia: jax.Array
    fibula: jax.Array
    patella: jax.Array


REACH_MM = 480.0  # ends of the long bones
ANGLES = ("femoral_valgus", "varus")  # every other field is a length


def _femur(a: Anatomy) -> np.ndarray:
    w, s, e = a.epicondylar_width / 2, a.femoral_shaft_width / 2, a.epicondyle_height
    n, d, at = a.notch_width / 2, a.notch_depth, a.notch_shift
    medial, lateral = a.spur_femur_medial, a.spur_femur_lateral
    up = a.femoral_flare
    flare = 0.55 * s + 0.45 * w  # half width between shaft and condyles
    inner = n + 0.14 * w
    return np.array(
        [
            (-1.05 * s, -REACH_MM),
            (-0.98 * s, -REACH_MM / 2),
            (-s, -e - 2.9 * up),
            (-1.06 * s, -e - 1.48 * up),
            (-1.3 * s, -e - up),
            (-flare, -e - 0.61 * up),
            (-0.9 * w, -e - 0.26 * up),
            (-w, -e),
            (-0.985 * w - 0.3 * medial, -0.6 * e),
            (-0.93 * w - medial, -0.25 * e),
            (-0.76 * w - 0.2 * medial, -0.05 * e + 0.15 * medial),
            (-0.54 * w, 0.0),
            (at - inner, -0.08 * d),
            (at - n, -0.4 * d),
            (at - 0.62 * n, -0.84 * d),
            (at, -d),
            (at + 0.62 * n, -0.84 * d),
            (at + n, -0.4 * d),
            (at + inner, -0.08 * d),
            (0.54 * w, 0.3),
            (0.75 * w + 0.2 * lateral, -0.03 * e + 0.15 * lateral),
            (0.91 * w + lateral, -0.22 * e),
            (0.95 * w + 0.3 * lateral, -0.55 * e),
            (0.975 * w, -0.95 * e),
            (0.86 * w, -e - 0.29 * up),
            (0.97 * flare, -e - 0.65 * up),
            (1.22 * s, -e - 1.03 * up),
            (1.04 * s, -e - 1.52 * up),
            (s, -e - 2.9 * up),
            (0.98 * s, -REACH_MM / 2),
            (1.05 * s, -REACH_MM),
        ]
    )


def _tibia(a: Anatomy) -> np.ndarray:
    w, s, top, peak = a.plateau_width / 2, a.tibial_shaft_width / 2, a.joint_space, a.spine_height
    medial, lateral = a.spur_tibia_medial, a.spur_tibia_lateral
    down = a.tibial_flare
    return np.array(
        [
            (-0.75 * s, REACH_MM),
            (-0.85 * s, REACH_MM / 2),
            (-s, top + 1.91 * down),
            (-1.08 * s, top + 1.39 * down),
            (-1.3 * s, top + down),
            (-0.55 * w - 0.35 * s, top + 0.67 * down),
            (-0.9 * w, top + 0.39 * down),
            (-w - 0.4 * medial, top + 8.5),
            (-0.95 * w - medial, top + 2.4 - 0.15 * medial),
            (-0.75 * w, top + 0.6),
            (-0.48 * w, top + 1.4),
            (-0.26 * w, top - 0.06 * peak),
            (-0.155 * w, top - 0.62 * peak),
            (-0.10 * w, top - peak),
            (-0.03 * w, top - 0.52 * peak),
            (0.05 * w, top - 0.48 * peak),
            (0.125 * w, top - 0.86 * peak),
            (0.18 * w, top - 0.52 * peak),
            (0.28 * w, top - 0.04 * peak),
            (0.5 * w, top + 0.4),
            (0.75 * w, top + 0.4),
            (0.95 * w + lateral, top + 2.6 - 0.15 * lateral),
            (0.99 * w + 0.4 * lateral, top + 9),
            (0.88 * w, top + 0.41 * down),
            (0.5 * w + 0.35 * s, top + 0.7 * down),
            (1.26 * s, top + 1.02 * down),
            (1.06 * s, top + 1.39 * down),
            (s, top + 1.91 * down),
            (0.85 * s, REACH_MM / 2),
            (0.75 * s, REACH_MM),
        ]
    )


def _fibula(a: Anatomy) -> np.ndarray:
    h, n = a.fibular_head_width / 2, a.fibular_neck_width / 2
    x, y = 0.46 * a.plateau_width + a.fibular_shift, a.joint_space + a.fibular_head_drop
    return np.array(
        [
            (x - 5 - n, REACH_MM),
            (x - 7 - 0.95 * n, REACH_MM / 2),
            (x - 7 - 0.95 * n, y + 70),
            (x - 5 - 0.95 * n, y + 42),
            (x - 3 - n, y + 26),
            (x - 0.92 * h, y + 14),
            (x - 0.8 * h, y + 5),
            (x + 0.1 * h, y + 1),
            (x + 0.55 * h, y - 2),
            (x + 0.92 * h, y + 4),
            (x + 0.97 * h, y + 13),
            (x - 1.5 + n, y + 26),
            (x - 4 + 0.95 * n, y + 42),
            (x - 6 + 0.95 * n, y + 70),
            (x - 6 + 0.95 * n, REACH_MM / 2),
            (x - 4 + n, REACH_MM),
        ]
    )


def _patella(a: Anatomy) -> np.ndarray:
    w, h = a.patella_width / 2, a.patella_height / 2
    x, y = a.patella_shift, -a.patella_rise
    rows = [(0.0, -1), (0.6, -0.88), (0.97, -0.4), (0.9, 0.15), (0.5, 0.72)]
    rows += [(0.0, 1), (-0.5, 0.74), (-0.9, 0.18), (-0.97, -0.36), (-0.6, -0.86)]
    return np.array([(x + w * u, y + h * v) for u, v in rows])


def spline_matrix(template: np.ndarray, per_segment: int) -> np.ndarray:
    """Return the matrix that maps K control points to the vertices of a closed cubic spline through them.

    The knots are the chord lengths of `template`, not of the points to interpolate. The curve is thus linear in its
    control points, and free of loops while these are near the template.

    Args:
        template: f64[K, 2], typical control points, in order around the curve.
        per_segment: vertices from one control point to the next.

    Returns:
        f32[K * per_segment, K]; row `k * per_segment` returns control point k.
    """
    count = len(template)
    chords = np.linalg.norm(np.roll(template, -1, axis=0) - template, axis=1)
    knots = np.concatenate([[0.0], np.cumsum(chords)])
    identity = np.eye(count)
    spline = CubicSpline(knots, np.vstack([identity, identity[:1]]), bc_type="periodic")
    positions = knots[:-1, None] + chords[:, None] * np.arange(per_segment) / per_segment
    return np.asarray(spline(positions.ravel()), np.float32)


class _Outline(NamedTuple):
    """A bone's control points as an affine function of the lengths, and the spline through them."""

    base: np.ndarray  # f64[K, 2], the points for lengths of 0
    slopes: np.ndarray  # f64[A, K, 2], derivative by each length
    spline: np.ndarray  # f32[V, K]


TEMPLATE = Anatomy()  # it also places the knots of the splines


def _outline(bone: Callable[[Anatomy], np.ndarray], per_segment: int) -> _Outline:
    # Computed at import: hundreds of scalar sums would take the compiler seconds.
    base = bone(Anatomy(*np.zeros(len(TEMPLATE))))
    slopes = np.stack([bone(Anatomy(*unit)) - base for unit in np.eye(len(TEMPLATE))])
    return _Outline(base, slopes, spline_matrix(bone(TEMPLATE), per_segment))


# In the order of `Contours`.
_OUTLINES = (_outline(_femur, 4), _outline(_tibia, 4), _outline(_fibula, 3), _outline(_patella, 4))


def control_points(anatomy: Anatomy) -> Contours:
    """Return the control points f32[K, 2] of each bone's contour, mm."""
    lengths = jnp.stack([jnp.float32(value) for value in anatomy])
    femur, tibia, fibula, patella = (
        jnp.float32(bone.base) + jnp.tensordot(lengths, jnp.float32(bone.slopes), 1) for bone in _OUTLINES
    )
    shaft_height = jnp.maximum(0.0, -femur[:, 1] - anatomy.epicondyle_height)
    femur = femur.at[:, 0].add(jnp.tan(jnp.deg2rad(anatomy.femoral_valgus)) * shaft_height)
    # Tibia and fibula turn together about the middle of the joint.
    angle = jnp.deg2rad(anatomy.varus)
    turn = jnp.stack(
        [jnp.stack([jnp.cos(angle), jnp.sin(angle)]), jnp.stack([-jnp.sin(angle), jnp.cos(angle)])]
    )
    middle = jnp.stack([jnp.zeros(()), jnp.asarray(anatomy.joint_space, jnp.float32)])
    return Contours(femur, (tibia - middle) @ turn + middle, (fibula - middle) @ turn + middle, patella)


def contours(
    anatomy: Anatomy, key: jax.Array, wobble_mm: jax.Array | float, warp_mm: jax.Array | float
) -> Contours:
    """Return smooth outlines through the control points, each point moved slightly at random.

    Args:
        anatomy: lengths of the knee.
        key: decides the random part.
        wobble_mm: standard deviation of the displacement of each point.
        warp_mm: standard deviation of a smooth displacement of all bones, which moves neighbors together.
    """
    wobble_key, warp_key = jax.random.split(key)
    points = control_points(anatomy)
    ends = np.cumsum([len(bone) for bone in points])[:-1]
    # One draw for all bones: each call of a random function costs compilation time.
    wobble = wobble_mm * jax.random.normal(wobble_key, (sum(map(len, points)), 2))
    vertices = [
        jnp.asarray(bone.spline) @ (point + displacement)
        for bone, point, displacement in zip(_OUTLINES, points, jnp.split(wobble, ends), strict=True)
    ]
    ends = np.cumsum([len(bone) for bone in vertices])[:-1]
    return Contours(*jnp.split(warp(jnp.concatenate(vertices), warp_key, warp_mm), ends))


def warp(points: jax.Array, key: jax.Array, amplitude: jax.Array | float, waves: int = 4) -> jax.Array:
    """Displace points f32[V, 2], mm, by plane waves of 70 to 250 mm, whose sum has standard deviation `amplitude`."""
    wave_key, push_key = jax.random.split(key)
    draws = jax.random.uniform(wave_key, (3, waves))
    heading, length, phase = 2 * jnp.pi * draws[0], 70 + 180 * draws[1], 2 * jnp.pi * draws[2]
    vectors = 2 * jnp.pi / length * jnp.stack([jnp.cos(heading), jnp.sin(heading)])
    push = jax.random.normal(push_key, (waves, 2)) * amplitude * jnp.sqrt(2 / waves)
    return points + jnp.sin(points @ vectors + phase) @ push


def signed_distance(polygon: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Return the exact distance from the points of a grid to a closed polygon, positive inside.

    The even-odd rule decides what is inside. The grid is separable, so the work per edge and point is a projection, a
    clip and two comparisons. A loop over the edges keeps memory at one image.

    Args:
        polygon: f32[V, 2], vertices (x, y) in order.
        y: f32[H], the rows' coordinates.
        x: f32[W], the columns' coordinates.

    Returns:
        f32[H, W], in the unit of the coordinates.
    """
    ends = jnp.roll(polygon, -1, axis=0)

    def add_edge(
        carry: tuple[jax.Array, jax.Array], edge: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        squared, is_inside = carry
        (ax, ay), (bx, by) = edge
        ex, ey = bx - ax, by - ay
        scale = 1.0 / jnp.maximum(ex * ex + ey * ey, 1e-12)
        along = (y - ay)[:, None] * (ey * scale) + (x - ax)[None, :] * (ex * scale)
        along = jnp.clip(along, 0.0, 1.0)
        dx = (x - ax)[None, :] - along * ex
        dy = (y - ay)[:, None] - along * ey
        # The edge flips the points left of its crossing in each row that it spans.
        spans = (ay > y) != (by > y)
        crossing = ax + (y - ay) * ex / jnp.where(ey == 0.0, 1.0, ey)
        flips = x[None, :] < jnp.where(spans, crossing, -jnp.inf)[:, None]
        return (jnp.minimum(squared, dx * dx + dy * dy), is_inside ^ flips), None

    shape = (y.shape[0], x.shape[0])
    start = (jnp.full(shape, jnp.inf), jnp.zeros(shape, bool))
    # On a GPU a kernel launch takes longer than an edge; on a CPU unrolling would only add compilation time.
    unroll = 1 if jax.default_backend() == "cpu" else 8
    (squared, is_inside), _ = jax.lax.scan(add_edge, start, (polygon, ends), unroll=unroll)
    return jnp.where(is_inside, 1.0, -1.0) * jnp.sqrt(squared)
