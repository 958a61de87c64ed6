"""The bones of a knee as contours in millimetres, from a few named anatomical lengths.

Frame: x grows to the lateral side (the fibula's), y grows downwards; the origin lies between the condyles, at
their lowest level. Femur, tibia and fibula run far beyond any picture, so that no cut end is ever seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax.data.phantom.curves import spline_matrix


class Anatomy(NamedTuple):
    """One knee; f32[] each, lengths in mm, angles in degrees."""

    epicondylar_width: jax.Array | float
    epicondyle_height: jax.Array | float  # above the condyles' lowest level
    notch_width: jax.Array | float
    notch_depth: jax.Array | float
    femoral_shaft_width: jax.Array | float
    femoral_valgus: jax.Array | float  # the shaft leans to the lateral side on its way up
    joint_space: jax.Array | float
    plateau_width: jax.Array | float
    spine_height: jax.Array | float
    tibial_shaft_width: jax.Array | float
    fibular_head_width: jax.Array | float
    fibular_neck_width: jax.Array | float
    fibular_head_drop: jax.Array | float  # below the plateau
    patella_width: jax.Array | float
    patella_height: jax.Array | float
    patella_rise: jax.Array | float  # its centre above the condyles' lowest level
    patella_shift: jax.Array | float  # its centre to the lateral side


class Contours(NamedTuple):
    """Polygons of the four bones, f32[V, 2] each, vertices (x, y) in mm."""

    femur: jax.Array
    tibia: jax.Array
    fibula: jax.Array
    patella: jax.Array


MEAN = Anatomy(82, 27, 20, 14, 31, 5, 5, 79, 8, 30, 23, 13, 12, 44, 41, 35, 3)
SPREAD = Anatomy(2.5, 2, 2, 2.5, 2, 2, 0.8, 2, 1.4, 1.8, 1.8, 1, 2.5, 2.5, 2.5, 4, 2)
# The planted bias at full strength: narrow condyles on a sturdy shaft, a deep notch, a narrow plateau with
# tall spines, a small high patella. It is arbitrary and stands for no people.
BIASED = Anatomy(70, 23, 17, 18, 32, 1, 7.5, 66, 10, 32, 18, 11, 17, 36, 34, 40, 4)

SIZE_SPREAD = 0.05  # of a factor common to all lengths of a patient
KNEE_SHARE = 0.1  # share of the variance between the two knees of one patient
WOBBLE_MM = 0.5  # standard deviation of each control point about its place
REACH_MM = 150.0  # where the long bones end


def _femur(a: Anatomy) -> np.ndarray:
    w, s, e = a.epicondylar_width / 2, a.femoral_shaft_width / 2, a.epicondyle_height
    n, d = a.notch_width / 2, a.notch_depth
    flare = 0.55 * s + 0.45 * w  # half width where shaft and condyles meet
    inner = n + 0.14 * w
    return np.array(
        [
            (-s, -REACH_MM),
            (-s, -REACH_MM / 2 - 28),
            (-1.06 * s, -e - 46),
            (-1.3 * s, -e - 31),
            (-flare, -e - 19),
            (-0.9 * w, -e - 8),
            (-w, -e),
            (-0.985 * w, -0.6 * e),
            (-0.93 * w, -0.25 * e),
            (-0.76 * w, -0.05 * e),
            (-0.54 * w, 0.0),
            (-inner, -0.08 * d),
            (-n, -0.4 * d),
            (-0.62 * n, -0.84 * d),
            (0.0, -d),
            (0.62 * n, -0.84 * d),
            (n, -0.4 * d),
            (inner, -0.08 * d),
            (0.54 * w, 0.3),
            (0.75 * w, -0.03 * e),
            (0.91 * w, -0.22 * e),
            (0.95 * w, -0.55 * e),
            (0.975 * w, -0.95 * e),
            (0.86 * w, -e - 9),
            (0.97 * flare, -e - 20),
            (1.22 * s, -e - 32),
            (1.04 * s, -e - 47),
            (s, -REACH_MM / 2 - 28),
            (s, -REACH_MM),
        ]
    )


def _tibia(a: Anatomy) -> np.ndarray:
    w, s, top, peak = a.plateau_width / 2, a.tibial_shaft_width / 2, a.joint_space, a.spine_height
    return np.array(
        [
            (-s, REACH_MM),
            (-s, top + 88),
            (-1.08 * s, top + 64),
            (-1.3 * s, top + 46),
            (-0.55 * w - 0.35 * s, top + 31),
            (-0.9 * w, top + 18),
            (-w, top + 8.5),
            (-0.95 * w, top + 2.4),
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
            (0.95 * w, top + 2.6),
            (0.99 * w, top + 9),
            (0.88 * w, top + 19),
            (0.5 * w + 0.35 * s, top + 32),
            (1.26 * s, top + 47),
            (1.06 * s, top + 64),
            (s, top + 88),
            (s, REACH_MM),
        ]
    )


def _fibula(a: Anatomy) -> np.ndarray:
    h, n = a.fibular_head_width / 2, a.fibular_neck_width / 2
    x, y = 0.46 * a.plateau_width, a.joint_space + a.fibular_head_drop
    return np.array(
        [
            (x - 8 - n, REACH_MM),
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
            (x - 7 + n, REACH_MM),
        ]
    )


def _patella(a: Anatomy) -> np.ndarray:
    w, h = a.patella_width / 2, a.patella_height / 2
    x, y = a.patella_shift, -a.patella_rise
    rows = [(0.0, -1), (0.6, -0.88), (0.97, -0.4), (0.9, 0.15), (0.5, 0.72)]
    rows += [(0.0, 1), (-0.5, 0.74), (-0.9, 0.18), (-0.97, -0.36), (-0.6, -0.86)]
    return np.array([(x + w * u, y + h * v) for u, v in rows])


class _Outline(NamedTuple):
    """A bone's control points as an affine function of the lengths, and the spline through them."""

    base: np.ndarray  # f64[K, 2], the points when every length is 0
    slopes: np.ndarray  # f64[A, K, 2], what each length adds per mm
    spline: np.ndarray  # f32[V, K]


def _outline(bone: Callable[[Anatomy], np.ndarray], per_segment: int) -> _Outline:
    # Read off here, where it costs nothing: hundreds of scalar sums would take a compiler seconds.
    base = bone(Anatomy(*np.zeros(len(MEAN))))
    slopes = np.stack([bone(Anatomy(*unit)) - base for unit in np.eye(len(MEAN))])
    return _Outline(base, slopes, spline_matrix(bone(MEAN), per_segment))


# In the order of `Contours`.
_OUTLINES = (_outline(_femur, 4), _outline(_tibia, 4), _outline(_fibula, 4), _outline(_patella, 5))


def control_points(anatomy: Anatomy) -> Contours:
    """The control points f32[K, 2] of each bone's contour; mm."""
    lengths = jnp.stack([jnp.float32(value) for value in anatomy])
    points = Contours(
        *(jnp.float32(bone.base) + jnp.tensordot(lengths, jnp.float32(bone.slopes), 1) for bone in _OUTLINES)
    )
    above = jnp.maximum(0.0, -points.femur[:, 1] - anatomy.epicondyle_height)
    lean = jnp.tan(jnp.deg2rad(anatomy.femoral_valgus)) * above
    return points._replace(femur=points.femur.at[:, 0].add(lean))


def draw_anatomy(patient: jax.Array, knee: jax.Array, morphology: jax.Array | float) -> Anatomy:
    """Draws a knee; knees drawn with the same `patient` key differ little.

    Args:
        patient: the key that the patient's knees share.
        knee: the key of this knee alone.
        morphology: f32[], 0 for the general distribution, 1 for one about `BIASED` with the same spread.
    """
    shared, own = (jax.random.normal(key, (len(MEAN),)) for key in (patient, knee))
    spread = jnp.clip(jnp.sqrt(1 - KNEE_SHARE) * shared + jnp.sqrt(KNEE_SHARE) * own, -2.5, 2.5)
    mean, biased, deviation = (jnp.array(table, jnp.float32) for table in (MEAN, BIASED, SPREAD))
    drawn = Anatomy(*(mean + morphology * (biased - mean) + deviation * spread))
    size = 1 + SIZE_SPREAD * jnp.clip(jax.random.normal(jax.random.fold_in(patient, 1)), -2.5, 2.5)
    return Anatomy(*(value * size for value in drawn))._replace(femoral_valgus=drawn.femoral_valgus)


def contours(anatomy: Anatomy, key: jax.Array) -> Contours:
    """Smooth outlines through the control points, each of these moved a little at random.

    Args:
        anatomy: lengths of the knee.
        key: decides the random part.
    """
    return Contours(
        *(
            jnp.asarray(bone.spline) @ (points + WOBBLE_MM * jax.random.normal(k, points.shape))
            for bone, points, k in zip(
                _OUTLINES, control_points(anatomy), jax.random.split(key, len(_OUTLINES)), strict=True
            )
        )
    )
