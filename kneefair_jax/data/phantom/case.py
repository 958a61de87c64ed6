"""Draw one phantom radiograph from a random key: anatomy, pose, image and mask.

A switch plants one difference of known strength in one group of phantoms. It is an experiment, never a claim about
people. The table in `tests/data/phantom/test_phantom_switches.py` states what each switch changes and what it does not.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax.data.phantom import bones, detector, objects, population, ranges, render, shapes
from kneefair_jax.errors import InputError

KNEE_OFFSET_MM = 95.0  # of each knee from the middle of a bilateral film

ANNOTATION_MM = 1.5
LIMB_GAIN = 0.45
SCATTER_GAIN = 1.5  # scatter grows faster than thickness
MINERAL_LOSS = 0.55
NOISE_GAIN = 4.0


class Bias(NamedTuple):
    """The strength of each switch in a case: f32 in [0, 1] each; 0 means no effect.

    The eighth switch, `representation`, acts on the cohort and not on a case; see `cohort`.
    """

    morphology: jax.Array | float = 0.0  # other proportions of the bones, about `population.BIASED`
    contrast: jax.Array | float = 0.0  # at 1, 55 % less mineral
    noise: jax.Array | float = 0.0  # at 1, a 25th of the photons: five times the noise
    soft_tissue: jax.Array | float = 0.0  # at 1, a limb 45 % wider, with 2.5 times the scatter
    osteophytes: jax.Array | float = 0.0  # at 1, every knee has Kellgren-Lawrence grade 3 or 4
    annotation: jax.Array | float = 0.0  # at 1, contours drawn `ANNOTATION_MM` too far out
    marker: jax.Array | float = 0.0  # probability of a sign in the film's upper corner


NO_BIAS = Bias()
CASE_SWITCHES = Bias._fields
SWITCHES = ("representation", *CASE_SWITCHES)


class Phantom(NamedTuple):
    """A radiograph with its ground truth.

    Attributes:
        image: u8[H, W].
        label: u8[H, W], the annotated mask, with the error of the switch `annotation`.
        exact: u8[H, W], the mask without that error.
        grade: i32[K], Kellgren-Lawrence grade of each knee.
        spacing: f32[2], mm per pixel down and across.
    """

    image: jax.Array
    label: jax.Array
    exact: jax.Array
    grade: jax.Array
    spacing: jax.Array


class _Knee(NamedTuple):
    bone: jax.Array  # f32[H, W], attenuation of bone and metal
    soft_tissue: jax.Array  # f32[H, W], attenuation of the rest
    label: jax.Array  # u8[H, W]
    exact: jax.Array  # u8[H, W]
    grade: jax.Array  # i32[]


class _Film(NamedTuple):
    """The draws and settings that both knees of a film share.

    Attributes:
        patient: a draw of `ranges.PATIENT`.
        film: a draw of `ranges.FILM`.
        variation: a draw of `ranges.VARIED`; None for a plain film.
        bias: strengths of the switches.
        width: f32[], from clinical to wide ranges.
    """

    patient: ranges.Settings
    film: ranges.Settings
    variation: ranges.Settings | None
    bias: Bias
    width: jax.Array | float


class _Keys(NamedTuple):
    body: jax.Array  # of the bones, which both knees share
    tissue: jax.Array  # of the soft tissue, which both knees share
    knee: jax.Array


def _keys(key: jax.Array, knee: jax.Array | int) -> _Keys:
    body, tissue, knee_key = (jax.random.fold_in(key, index) for index in (0, 1, 2 + jnp.asarray(knee)))
    return _Keys(body, tissue, knee_key)


def _with_exact_products[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """Multiply matrices in full precision: rounding to ten bits, the default, moves contours by tenths of a mm."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return wrapper


def draw_grade(
    key: jax.Array, knee: jax.Array | int, bias: Bias, width: jax.Array | float = 0.0
) -> jax.Array:
    """Return the Kellgren-Lawrence grade i32[] that `draw_case` draws for this knee; arguments as there."""
    return population.draw_grade(jax.random.fold_in(_keys(key, knee).knee, 1), bias.osteophytes, width)


# Nine parameters: each is one property of a film, and six have a default.
@_with_exact_products
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
    """Draw a postero-anterior radiograph of one knee and its mask; a pure function that works in `jit` and `vmap`.

    Groups differ by `bias` alone: the same key without bias gives the same image.

    Args:
        key: the patient's key; both knees of a patient share it, and with it most of their anatomy.
        knee: i32[], 0 for the right knee, whose fibula is on the image's left; 1 for the left knee.
        bias: strengths of the switches.
        size: (H, W) of the image.
        fov_mm: height of the field of view; its width follows from the size.
        width: f32[] in [0, 1], from clinical to wide ranges of all settings (`ranges`).
        grade: i32[], Kellgren-Lawrence grade; None draws it (`draw_grade`).
        overlaps: whether masks have the classes of `anatomy.OVERLAPS`; static.
        varied: whether to draw the settings of `ranges.VARIED` too; all other settings keep their values. Static.

    Returns:
        A film whose masks follow the scheme `knee` or `knee_overlaps`; the image is the same for both.

    Raises:
        InputError: a strength lies outside [0, 1].
    """
    _check_strengths(bias)
    keys = _keys(key, knee)
    view_key, film_key = jax.random.split(jax.random.fold_in(keys.knee, 2))
    settings = ranges.draw(view_key, ranges.VIEW, width)
    film = _draw_film_settings(film_key, keys.tissue, bias, width, varied=varied)
    crop = film.variation["crop"] if film.variation else None
    is_left = jnp.asarray(knee) == 1
    film_view = render.place_knee(settings, is_left, size=size, fov_mm=fov_mm, crop=crop)
    grade = draw_grade(key, knee, bias, width) if grade is None else grade
    phantom = _draw_knee(key, knee, film, film_view, grade, overlaps=overlaps)
    attenuation = phantom.soft_tissue + phantom.bone
    image, field = _expose(keys.knee, attenuation, film, film_view, is_left)
    return Phantom(
        image, phantom.label * field, phantom.exact * field, phantom.grade[None], film_view.spacing
    )


@_with_exact_products
def draw_contours(
    key: jax.Array,
    knee: jax.Array | int = 0,
    bias: Bias = NO_BIAS,
    *,
    size: tuple[int, int],
    fov_mm: jax.Array | float = 140.0,
    width: jax.Array | float = 0.0,
    grade: jax.Array | int | None = None,
) -> shapes.Contours:
    """Return the bones' outlines of the radiograph that `draw_case` draws with the same arguments, on the film.

    They are the exact geometry of the masks `exact` of plain films; those of varied films have bumps besides.

    Returns:
        polygons f32[V, 2], vertices (x, y) in mm from the film's upper left corner; the long bones extend beyond it.

    Raises:
        InputError: a strength lies outside [0, 1].
    """
    _check_strengths(bias)
    keys = _keys(key, knee)
    settings = ranges.draw(jax.random.split(jax.random.fold_in(keys.knee, 2))[0], ranges.VIEW, width)
    view = render.place_knee(settings, jnp.asarray(knee) == 1, size=size, fov_mm=fov_mm)
    grade = draw_grade(key, knee, bias, width) if grade is None else grade
    outlines = _draw_outlines(keys, width, bias, grade, None).outlines
    half = view.spacing[::-1] * jnp.array(size[::-1], jnp.float32) / 2
    return shapes.Contours(*(view.to_film(bone) + half for bone in outlines))


@_with_exact_products
def draw_film(
    key: jax.Array,
    bias: Bias = NO_BIAS,
    *,
    size: tuple[int, int],
    fov_mm: jax.Array | float = 300.0,
    width: jax.Array | float = 0.0,
    varied: bool = False,
) -> Phantom:
    """Draw a bilateral postero-anterior radiograph with the right knee on the image's left.

    Arguments as for `draw_case`; `fov_mm` should leave room for both knees, which lie 190 mm apart.

    Returns:
        A film whose masks follow the scheme `knees`, with the grades of the right and the left knee.
    """
    _check_strengths(bias)
    film_key, view_key, lean_key = jax.random.split(jax.random.fold_in(key, 4), 3)
    film = _draw_film_settings(film_key, _keys(key, 0).tissue, bias, width, varied=varied)
    if film.variation:
        # A strip around one limb would hide the other knee.
        film = film._replace(variation=film.variation | {"strip": jnp.float32(-1)})
    settings = ranges.draw(view_key, ranges.VIEW, width)
    # Both knees share the film's shift and aspect; each leg leans by itself.
    turns = jnp.stack([settings["turn"], ranges.draw(lean_key, ranges.VIEW, width)["turn"]])

    def draw_knee(knee: jax.Array, offset_mm: jax.Array, turn: jax.Array) -> _Knee:
        knee_settings = settings | {"turn": turn}
        knee_view = render.place_knee(knee_settings, knee == 1, size=size, fov_mm=fov_mm, offset_mm=offset_mm)
        return _draw_knee(key, knee, film, knee_view, draw_grade(key, knee, bias, width))

    knees = jax.vmap(draw_knee)(jnp.arange(2), jnp.array([-KNEE_OFFSET_MM, KNEE_OFFSET_MM]), turns)
    # Hardware lies in one of the two knees.
    has_left_hardware = jax.random.bernoulli(jax.random.fold_in(film_key, 1))
    offset = jnp.where(has_left_hardware, KNEE_OFFSET_MM, -KNEE_OFFSET_MM)
    film_view = render.place_knee(settings, True, size=size, fov_mm=fov_mm, offset_mm=offset)
    attenuation = knees.soft_tissue.max(axis=0) + knees.bone.sum(axis=0)
    image, field = _expose(film_key, attenuation, film, film_view, None)
    label, exact = _merge_sides(*knees.label) * field, _merge_sides(*knees.exact) * field
    return Phantom(image, label, exact, knees.grade, film_view.spacing)


def _check_strengths(bias: Bias) -> None:
    """Refuse strengths outside [0, 1]; values inside `jit` are unknown and pass."""
    for switch, strength in zip(Bias._fields, bias, strict=True):
        if not isinstance(strength, jax.core.Tracer) and not np.all((strength >= 0) & (strength <= 1)):
            raise InputError(f"phantom: Bias.{switch} = {strength}; give a strength from 0 to 1")


def _draw_film_settings(
    film_key: jax.Array, tissue_key: jax.Array, bias: Bias, width: jax.Array | float, *, varied: bool
) -> _Film:
    patient = ranges.draw(tissue_key, ranges.PATIENT, width)
    patient |= {
        "mineral": patient["mineral"] * (1 - MINERAL_LOSS * bias.contrast),
        "limb": patient["limb"] * (1 + LIMB_GAIN * bias.soft_tissue),
    }
    film = ranges.draw(film_key, ranges.FILM, width)
    # A key of its own keeps the other draws unchanged.
    variation = ranges.draw(jax.random.fold_in(film_key, 2), ranges.VARIED, width) if varied else None
    return _Film(patient, film, variation, bias, width)


class _Outlines(NamedTuple):
    pose: ranges.Settings  # a draw of `ranges.KNEE`
    anatomy: shapes.Anatomy
    outlines: shapes.Contours  # in the knee's frame


def _draw_outlines(
    keys: _Keys,
    width: jax.Array | float,
    bias: Bias,
    grade: jax.Array | int,
    variation: ranges.Settings | None,
) -> _Outlines:
    """Draw the bones of one knee as polygons."""
    shape_key, outline_key, pose_key, _, _ = jax.random.split(jax.random.fold_in(keys.knee, 3), 5)
    pose = ranges.draw(pose_key, ranges.KNEE, width)
    anatomy = population.draw_anatomy(keys.body, shape_key, grade, pose, bias.morphology)
    wobble_mm = pose["wobble_mm"]
    if variation:
        anatomy = bones.fit_insert(bones.vary_anatomy(anatomy, variation), variation)
        wobble_mm += variation["more_wobble_mm"]
    outlines = shapes.contours(anatomy, outline_key, wobble_mm, pose["warp_mm"])
    return _Outlines(pose, anatomy, outlines)


def _draw_knee(
    key: jax.Array,
    knee: jax.Array | int,
    film: _Film,
    knee_view: render.View,
    grade: jax.Array | int,
    *,
    overlaps: bool = False,
) -> _Knee:
    """Draw one knee: its attenuation and its masks."""
    keys = _keys(key, knee)
    _, _, _, texture_key, flesh_key = jax.random.split(jax.random.fold_in(keys.knee, 3), 5)
    variation = film.variation
    pose, anatomy, outlines = _draw_outlines(keys, film.width, film.bias, grade, variation)
    distances = shapes.Contours(
        *(shapes.signed_distance(knee_view.to_film(bone), knee_view.y, knee_view.x) for bone in outlines)
    )
    if variation:
        distances = bones.remove_fibula(distances, variation)
    projection = render.Projection(distances, anatomy, *knee_view.in_knee(), knee_view.spacing)
    sclerosis = film.film["sclerosis"] * population.severity(grade, pose["severity"], population.SCLEROSIS)
    thickness = None
    if variation:
        rough_key, inner_key, implant_key = jax.random.split(jax.random.fold_in(keys.knee, 6), 3)
        projection = bones.roughen(projection, variation, rough_key)
        thickness = bones.thickness(projection, variation, inner_key)
    bone = render.bone(projection, sclerosis, film.patient, film.film, texture_key, thickness)
    limb_x = projection.x
    if variation:
        bone += bones.implants(projection, variation, implant_key)
        limb_x = bones.skew(limb_x, variation["asymmetry"])
    soft_projection = projection._replace(x=limb_x)
    return _Knee(
        bone=bone + objects.prosthesis(film.film, projection.distances, projection.y),
        soft_tissue=render.soft_tissue(soft_projection, film.patient, film.film, flesh_key),
        label=render.label_map(projection.distances, ANNOTATION_MM * film.bias.annotation, overlaps=overlaps),
        exact=render.label_map(projection.distances, overlaps=overlaps),
        grade=jnp.asarray(grade),
    )


def _expose(
    key: jax.Array,
    attenuation: jax.Array,
    film: _Film,
    film_view: render.View,
    left: jax.Array | bool | None,
) -> tuple[jax.Array, jax.Array]:
    """Expose, develop and process a film.

    Args:
        key: decides all that is random.
        attenuation: f32[H, W], line integrals through the patient.
        film: settings of the film.
        film_view: the film's pixels.
        left: whether the side marker shows L; None for a film of both sides.

    Returns:
        The image u8[H, W], and u8[H, W], 1 inside the collimated field.
    """
    object_key, sign_key, noise_key, tone_key, overlay_key = jax.random.split(jax.random.fold_in(key, 4), 5)
    settings, variation, spacing = film.film, film.variation, film_view.spacing
    sign = (jax.random.uniform(sign_key) < film.bias.marker).astype(jnp.float32)
    attenuation = attenuation + objects.in_beam(object_key, settings, film_view, left, sign)
    scatter = settings["scatter"] * (1 + SCATTER_GAIN * film.bias.soft_tissue)
    axis = render.axis_attenuation(film.patient, settings)
    noise = 1 + NOISE_GAIN * film.bias.noise
    signal = detector.expose(attenuation, axis, noise, settings | {"scatter": scatter}, spacing, noise_key)
    if variation:
        signal = detector.multiscale(signal, variation["multiscale"], variation["base"], spacing)
    grey = detector.develop(signal, settings, spacing, tone_key)
    if variation:
        grey = detector.clahe(grey, 1 + variation["clahe"], variation["tiles"])
        grey = detector.sharpen(grey, variation["sharpen"], variation["sharpen_mm"], spacing)
    grey, field = detector.finish(overlay_key, grey, settings)
    if variation:
        strip = render.strip(film_view, variation["strip"])
        grey, field = grey * strip, field & strip
    return jnp.round(255 * grey).astype(jnp.uint8), field.astype(jnp.uint8)


def _merge_sides(right: jax.Array, left: jax.Array) -> jax.Array:
    """Merge the masks u8[H, W] of two knees, of the scheme `knee`, into one of the scheme `knees`."""
    # The labels of femur, tibia, fibula and patella in the right and in the left knee.
    to_right, to_left = jnp.array([0, 3, 5, 7, 1], jnp.uint8), jnp.array([0, 4, 6, 8, 2], jnp.uint8)
    return jnp.where(left > 0, to_left[left], to_right[right])
