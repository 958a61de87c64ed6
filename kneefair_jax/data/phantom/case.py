"""One phantom film from a random key: anatomy, pose, picture and mask."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom import bias as switches
from kneefair_jax.data.phantom import (
    detector,
    implants,
    inner,
    objects,
    overlay,
    population,
    processing,
    ranges,
    render,
    shapes,
    view,
)
from kneefair_jax.data.phantom.bias import NO_BIAS, Bias
from kneefair_jax.data.phantom.curves import signed_distance

APART_MM = 95.0  # of a knee from the middle of a film of both


class Phantom(NamedTuple):
    """A film with its truth.

    Attributes:
        image: u8[H, W].
        label: u8[H, W], the mask as somebody drew it: with the switch `annotation`'s error.
        exact: u8[H, W], the mask without it.
        grade: i32[K], Kellgren-Lawrence grade of each knee.
        spacing: f32[2], mm per pixel down and across.
    """

    image: jax.Array
    label: jax.Array
    exact: jax.Array
    grade: jax.Array
    spacing: jax.Array


class _Knee(NamedTuple):
    attenuation: jax.Array
    soft: jax.Array
    label: jax.Array
    exact: jax.Array
    grade: jax.Array


class _Keys(NamedTuple):
    body: jax.Array  # bones that both knees share
    tissue: jax.Array
    own: jax.Array


def _keys(key: jax.Array, knee: jax.Array | int) -> _Keys:
    # 0 and 1 are what both knees share.
    body, tissue, own = (jax.random.fold_in(key, index) for index in (0, 1, 2 + jnp.asarray(knee)))
    return _Keys(body, tissue, own)


def draw_grade(
    key: jax.Array, knee: jax.Array | int, bias: Bias, width: jax.Array | float = 0.0
) -> jax.Array:
    """i32[], the Kellgren-Lawrence grade that `draw_case` gives this knee; arguments as there."""
    return population.draw_grade(jax.random.fold_in(_keys(key, knee).own, 1), bias.osteophytes, width)


# Accelerators round matrix products to ten bits by default: tenths of a millimetre on a contour.
@jax.default_matmul_precision("highest")
def draw_case(
    key: jax.Array,
    knee: jax.Array | int = 0,
    bias: Bias = NO_BIAS,
    *,
    size: tuple[int, int],
    fov_mm: jax.Array | float = 140.0,
    width: jax.Array | float = 0.0,
    grade: jax.Array | int | None = None,
    overlaps: bool = False,
    varied: bool = False,
) -> Phantom:
    """Draws a postero-anterior radiograph of one knee and its mask; pure, works in `jit` and `vmap`.

    Nothing but `bias` can tell one group from another: the same key without bias is the same picture.

    Args:
        key: the patient's key; both knees of a patient share it, and with it most of their anatomy.
        knee: i32[], 0 the right knee, whose fibula is on the picture's left, or 1 the left one.
        bias: strengths of the switches.
        size: (H, W) of the picture.
        fov_mm: height of the field of view; its width follows from the size.
        width: f32[] in [0, 1], from clinical to wide ranges of everything (`ranges`).
        grade: i32[], Kellgren-Lawrence grade; None draws it (`draw_grade`).
        overlaps: whether masks have the classes of `anatomy.OVERLAPS`; static.
        varied: whether the settings of `ranges.VARIED` apply too; all other settings keep their values. Static.

    Returns:
        A film whose masks follow the scheme `knee`, or `knee_overlaps`; the image is the same.
    """
    keys = _keys(key, knee)
    view_key, film_key = jax.random.split(jax.random.fold_in(keys.own, 2))
    settings = ranges.draw(view_key, ranges.VIEW, width)
    extra = _extra(film_key, varied, width)
    crop = extra["crop"] if extra else None
    seen = view.make(settings, jnp.asarray(knee) == 1, size=size, fov_mm=fov_mm, crop=crop)
    patient = _patient(keys.tissue, bias, width)
    film = ranges.draw(film_key, ranges.FILM, width)
    grade = draw_grade(key, knee, bias, width) if grade is None else grade
    drawn = _draw_knee(key, knee, bias, patient, film, seen, width, grade, extra, overlaps=overlaps)
    rays = drawn.soft + drawn.attenuation
    image, lit = _expose(keys.own, rays, bias, patient, film, seen, jnp.asarray(knee) == 1, extra)
    return Phantom(image, drawn.label * lit, drawn.exact * lit, drawn.grade[None], seen.spacing)


@jax.default_matmul_precision("highest")
def draw_film(
    key: jax.Array,
    bias: Bias = NO_BIAS,
    *,
    size: tuple[int, int],
    fov_mm: jax.Array | float = 300.0,
    width: jax.Array | float = 0.0,
    varied: bool = False,
) -> Phantom:
    """Draws a bilateral postero-anterior radiograph: the right knee on the picture's left.

    Arguments as for `draw_case`; `fov_mm` should leave room for both knees, which lie 190 mm apart.

    Returns:
        A film whose masks follow the scheme `knees`, with the grades of the right and the left knee.
    """
    film_key, view_key, lean_key = jax.random.split(jax.random.fold_in(key, 4), 3)
    patient, film = _patient(_keys(key, 0).tissue, bias, width), ranges.draw(film_key, ranges.FILM, width)
    extra = _extra(film_key, varied, width)
    if extra:
        extra["strip"] = jnp.float32(-1)  # one limb's strip shows no second knee
    settings = ranges.draw(view_key, ranges.VIEW, width)
    # One film has one shift and aspect; the legs lean to their own sides.
    turns = jnp.stack([settings["turn"], ranges.draw(lean_key, ranges.VIEW, width)["turn"]])

    def one(knee: jax.Array, offset_mm: jax.Array, turn: jax.Array) -> _Knee:
        leaning = settings | {"turn": turn}
        seen = view.make(leaning, knee == 1, size=size, fov_mm=fov_mm, offset_mm=offset_mm)
        grade = draw_grade(key, knee, bias, width)
        return _draw_knee(key, knee, bias, patient, film, seen, width, grade, extra)

    both = jax.vmap(one)(jnp.arange(2), jnp.array([-APART_MM, APART_MM]), turns)
    # Hardware is in one of the two knees.
    offset = jnp.where(jax.random.bernoulli(jax.random.fold_in(film_key, 1)), APART_MM, -APART_MM)
    seen = view.make(settings, True, size=size, fov_mm=fov_mm, offset_mm=offset)
    rays = both.soft.max(axis=0) + both.attenuation.sum(axis=0)
    image, lit = _expose(film_key, rays, bias, patient, film, seen, None, extra)
    label, exact = _both_sides(*both.label) * lit, _both_sides(*both.exact) * lit
    return Phantom(image, label, exact, both.grade, seen.spacing)


def _extra(film_key: jax.Array, varied: bool, width: jax.Array | float) -> ranges.Settings | None:
    """Draw the settings of varied films, None for plain ones; a key of its own keeps the other draws as they are."""
    return ranges.draw(jax.random.fold_in(film_key, 2), ranges.VARIED, width) if varied else None


def _patient(key: jax.Array, bias: Bias, width: jax.Array | float) -> ranges.Settings:
    patient = ranges.draw(key, ranges.PATIENT, width)
    return patient | {
        "mineral": patient["mineral"] * (1 - switches.MINERAL_LOSS * bias.contrast),
        "limb": patient["limb"] * (1 + switches.LIMB_GAIN * bias.soft_tissue),
    }


def _draw_knee(
    key: jax.Array,
    knee: jax.Array | int,
    bias: Bias,
    patient: ranges.Settings,
    film: ranges.Settings,
    seen: view.View,
    width: jax.Array | float,
    grade: jax.Array | int,
    extra: ranges.Settings | None,
    *,
    overlaps: bool = False,
) -> _Knee:
    """The bones of one knee as the beam and as an annotator see them."""
    keys = _keys(key, knee)
    shape_key, outline_key, pose_key, texture_key, flesh_key = jax.random.split(
        jax.random.fold_in(keys.own, 3), 5
    )
    pose = ranges.draw(pose_key, ranges.KNEE, width)
    anatomy = population.draw_anatomy(keys.body, shape_key, grade, pose, bias.morphology)
    wobble_mm = pose["wobble_mm"]
    if extra:
        anatomy = implants.fitted(inner.posed(anatomy, extra), extra)
        wobble_mm += extra["more_wobble_mm"]
    outlines = shapes.contours(anatomy, outline_key, wobble_mm, pose["warp_mm"])
    distances = shapes.Contours(*(signed_distance(seen.to_film(bone), seen.y, seen.x) for bone in outlines))
    at_y, at_x = seen.in_knee()
    sclerosis = film["sclerosis"] * population.severity(grade, pose["severity"], population.SCLEROSIS)
    thickness = None
    if extra:
        rough_key, inner_key, implant_key = jax.random.split(jax.random.fold_in(keys.own, 6), 3)
        distances = inner.roughened(distances, extra, seen.spacing, rough_key)
        thickness = inner.thickness(distances, anatomy, extra, at_y, at_x, seen.spacing, inner_key)
    attenuation = render.bone(
        distances, anatomy, sclerosis, patient, film, at_y, at_x, seen.spacing, texture_key, thickness
    )
    if extra:
        attenuation += implants.attenuation(distances, anatomy, extra, at_y, at_x, implant_key)
    across_limb = inner.skewed(at_x, extra["asymmetry"]) if extra else at_x
    return _Knee(
        attenuation=attenuation + objects.prosthesis(film, distances, at_y),
        soft=render.soft_tissue(patient, film, at_y, across_limb, seen.spacing, flesh_key),
        label=render.label_map(distances, switches.ANNOTATION_MM * bias.annotation, overlaps=overlaps),
        exact=render.label_map(distances, overlaps=overlaps),
        grade=jnp.asarray(grade),
    )


def _expose(
    key: jax.Array,
    rays: jax.Array,
    bias: Bias,
    patient: ranges.Settings,
    film: ranges.Settings,
    seen: view.View,
    left: jax.Array | bool | None,
    extra: ranges.Settings | None,
) -> tuple[jax.Array, jax.Array]:
    """Line integrals through the patient -> the film u8[H, W], and u8[H, W]: 1 where the beam fell."""
    thing_key, sign_key, noise_key, tone_key, overlay_key = jax.random.split(jax.random.fold_in(key, 4), 5)
    sign = (jax.random.uniform(sign_key) < bias.marker).astype(jnp.float32)
    rays = rays + objects.in_beam(thing_key, film, seen, left, sign)
    scatter = film["scatter"] * (1 + switches.SCATTER_GAIN * bias.soft_tissue)
    axis = render.axis_attenuation(patient, film)
    noise = 1 + switches.NOISE_GAIN * bias.noise
    exposed = film | {"scatter": scatter}
    signal = detector.expose(rays, axis, noise, exposed, seen.spacing, noise_key)
    if extra:
        signal = processing.multiscale(signal, extra["multiscale"], extra["base"], seen.spacing)
    developed = detector.develop(signal, film, seen.spacing, tone_key)
    if extra:
        developed = processing.clahe(developed, 1 + extra["clahe"], extra["tiles"])
        developed = processing.sharpen(developed, extra["sharpen"], extra["sharpen_mm"], seen.spacing)
    grey, lit = overlay.finish(overlay_key, developed, film)
    if extra:
        strip = view.strip(seen, extra["strip"])
        grey, lit = grey * strip, lit & strip
    return jnp.round(255 * grey).astype(jnp.uint8), lit.astype(jnp.uint8)


def _both_sides(right: jax.Array, left: jax.Array) -> jax.Array:
    """Two masks of the scheme `knee` -> one of `knees`."""
    # Of femur, tibia, fibula, patella, in the right and in the left knee.
    to_right, to_left = jnp.array([0, 3, 5, 7, 1], jnp.uint8), jnp.array([0, 4, 6, 8, 2], jnp.uint8)
    return jnp.where(left > 0, to_left[left], to_right[right])
