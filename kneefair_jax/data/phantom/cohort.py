"""A cohort of phantom patients, with attributes in stated shares and a planted bias, as a source of cases."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from kneefair_jax import anatomy, groups
from kneefair_jax.data.phantom import patients
from kneefair_jax.data.phantom.case import (
    CASE_SWITCHES,
    SWITCHES,
    Bias,
    Phantom,
    draw_case,
    draw_film,
    draw_grade,
)
from kneefair_jax.data.source import Example, Online, Source
from kneefair_jax.errors import InputError

VERSION = 4  # raise it with every change of what a seed draws
CHUNK = 16  # cases rendered at a time; one shape, so one compilation
# Separates the keys of online cases from those of patients, which are below 1,000,000.
ONLINE_STREAM = 0x4F4E4C49
MASKS = ("annotated", "exact", "exact_test")
STRUCTURES = ("knee", "knee_overlaps")
FILMS = ("plain", "varied")
GRADES = ("0", "1", "2", "3", "4")
RANDOM_COLUMNS = ("kl", "fov_mm", "randomisation")  # columns that the draw of a case decides
ONLINE_NOTE = (
    "training cases are drawn online and never repeat; the training patients in tables are not drawn, they only set "
    "the shares of groups, sides and biases"
)


def _settings(
    config: Mapping[str, Any], size: tuple[int, int], seed: int, fractions: Sequence[float] | None
) -> dict[str, Any]:
    try:
        bias = _nested(config["bias"])
        # Strength 0 counts too: a comparison over strengths needs the same patients in validation and test.
        has_representation = any("representation" in switches for switches in bias.values())
        if fractions is None and any(switches.get("representation", 0.0) for switches in bias.values()):
            raise InputError(
                "phantom: the switch 'representation' plants its share in the training split; set data.folds=0"
            )
        if fractions is None and config["masks"] == "exact_test":
            raise InputError(
                "phantom: masks = 'exact_test' needs one test split; set data.folds=0, or give another"
            )
        has_splits = (has_representation and fractions is not None) or config["masks"] == "exact_test"
        return {
            "source": "phantom",
            "version": VERSION,
            "patients": int(config["patients"]),
            "knees_per_patient": int(config["knees_per_patient"]),
            "bilateral": bool(config["bilateral"]),
            "attributes": _nested(config["attributes"]),
            "bias": bias,
            "fov_mm": [float(end) for end in config["fov_mm"]],
            "randomisation": [float(end) for end in config["randomisation"]],
            "masks": str(config["masks"]),
            "fractions": [float(share) for share in fractions or ()] if has_splits else None,
            "size": [int(length) for length in size],
            "seed": int(seed),
            "structures": str(config.get("structures", STRUCTURES[0])),
            "films": str(config.get("films", FILMS[0])),
        }
    except KeyError as error:
        raise InputError(f"phantom: the setting {error} is missing; add it to the config") from None


def _check(settings: Mapping[str, Any]) -> None:
    if settings["patients"] < 1:
        raise InputError(f"phantom: patients = {settings['patients']}; give at least 1")
    if settings["knees_per_patient"] not in (1, 2):
        raise InputError(f"phantom: knees_per_patient = {settings['knees_per_patient']}; give 1 or 2")
    if settings["bilateral"] and settings["knees_per_patient"] != 2:
        raise InputError("phantom: a bilateral film shows two knees; set knees_per_patient = 2")
    fov = settings["fov_mm"]
    if len(fov) != 2 or not 0 < fov[0] <= fov[1]:
        raise InputError(
            f"phantom: fov_mm = {tuple(fov)}; give the smallest and the largest height of the image in mm, "
            "such as (140.0, 140.0)"
        )
    widths = settings["randomisation"]
    if len(widths) != 2 or not 0 <= widths[0] <= widths[1] <= 1:
        raise InputError(
            f"phantom: randomisation = {tuple(widths)}; give a minimum and a maximum from 0 to 1, such as (0.0, 0.0)"
        )
    if settings["masks"] not in MASKS:
        raise InputError(f"phantom: masks = {settings['masks']!r}; give one of {MASKS}")
    structures = settings["structures"]
    if structures not in STRUCTURES:
        raise InputError(f"phantom: structures = {structures!r}; give one of {STRUCTURES}")
    if settings["bilateral"] and structures != STRUCTURES[0]:
        raise InputError(
            f"phantom: structures = {structures!r} is for films of one knee; set bilateral = False, or structures = "
            f"{STRUCTURES[0]!r}"
        )
    if settings["films"] not in FILMS:
        raise InputError(f"phantom: films = {settings['films']!r}; give one of {FILMS}")
    if min(settings["size"]) < 1:
        raise InputError(f"phantom: size = {settings['size']}; give a height and a width in pixels")
    shares = settings["attributes"]
    for attribute, levels in shares.items():
        if min(levels.values(), default=-1) < 0 or abs(sum(levels.values()) - 1) > 1e-6:
            raise InputError(
                f"phantom: the shares of {attribute!r} are {levels}; give each level a share; shares sum to 1"
            )
    names = [f"{attribute}={level}" for attribute, levels in shares.items() for level in levels]
    for name, switches in settings["bias"].items():
        if not set(name.split(",")) <= set(names):
            raise InputError(
                f"phantom: bias for {name!r}, but the groups are {names}; give one of them, or several joined by commas"
            )
        for switch, strength in switches.items():
            if switch not in SWITCHES:
                raise InputError(
                    f"phantom: bias for {name!r} names the switch {switch!r}; give one of {SWITCHES}"
                )
            if not 0 <= strength <= 1:
                raise InputError(
                    f"phantom: {switch!r} of {name!r} is {strength}; give a strength from 0 to 1"
                )


def _nested(tree: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {name: {key: float(value) for key, value in inner.items()} for name, inner in tree.items()}


def _key(seed: jax.Array, patient: jax.Array) -> jax.Array:
    """Return the patient's key; no case depends on the other cases."""
    return jax.random.fold_in(jax.random.key(seed), patient)


class _Plan(NamedTuple):
    """The settings of cases that are decided before a case is drawn, [N] each."""

    patient: jax.Array | int  # i32
    knee: jax.Array  # i32, 0 right, 1 left
    bias: Bias  # of f32
    fov_mm: jax.Array  # f32
    randomisation: jax.Array  # f32
    grade: jax.Array  # i32


def _plan(
    key: jax.Array,
    patient: jax.Array | int,
    knee: jax.Array,
    strengths: Bias,
    fov_mm: jax.Array,
    randomisation: jax.Array,
) -> _Plan:
    """Plan one case from a patient's key."""
    places = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 5), knee), (2,))
    width = randomisation[0] + (randomisation[1] - randomisation[0]) * places[0]
    fov = fov_mm[0] * (fov_mm[1] / fov_mm[0]) ** places[1]
    return _Plan(patient, knee, strengths, fov, width, draw_grade(key, knee, strengths, width))


class _Layout(NamedTuple):
    """The settings that all cases of a cohort share; static, so each layout compiles its own program."""

    size: tuple[int, int]
    bilateral: bool
    overlaps: bool
    varied: bool


def _draw(key: jax.Array, case: _Plan, layout: _Layout) -> Phantom:
    """Draw one case from a patient's key and its plan."""
    options: dict[str, Any] = {
        "size": layout.size,
        "fov_mm": case.fov_mm,
        "width": case.randomisation,
        "varied": layout.varied,
    }
    if layout.bilateral:
        return draw_film(key, case.bias, **options)
    return draw_case(key, case.knee, case.bias, grade=case.grade, overlaps=layout.overlaps, **options)


@jax.jit
def _plan_cases(
    seed: jax.Array,
    patient_numbers: jax.Array,
    knees: jax.Array,
    bias: Bias,
    fov_mm: jax.Array,
    randomisation: jax.Array,
) -> _Plan:
    def plan_case(patient: jax.Array, knee: jax.Array, strengths: Bias) -> _Plan:
        return _plan(_key(seed, patient), patient, knee, strengths, fov_mm, randomisation)

    return jax.vmap(plan_case)(patient_numbers, knees, bias)


@functools.partial(jax.jit, static_argnames="layout")
def _draw_chunk(seed: jax.Array, plan: _Plan, *, layout: _Layout) -> Phantom:
    return jax.vmap(lambda case: _draw(_key(seed, case.patient), case, layout))(plan)


def _online(settings: Mapping[str, Any], layout: _Layout) -> Online:
    """Return the source of new cases of the same population; each is drawn as a stored case would be."""
    ends = jnp.array(settings["fov_mm"]), jnp.array(settings["randomisation"])

    def inputs(cases: pd.DataFrame) -> dict[str, np.ndarray]:
        strengths = cases[[f"bias_{switch}" for switch in CASE_SWITCHES]].to_numpy(np.float32)
        return {"knee": patients.knee_sides(cases), "bias": strengths}

    def draw(
        stage: int, seed: jax.Array, step: jax.Array, batch: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        # Each stage of a schedule starts at step 0.
        cohort_key = jax.random.fold_in(jax.random.key(settings["seed"]), ONLINE_STREAM + stage)
        step_key = jax.random.fold_in(jax.random.fold_in(cohort_key, seed), step)

        def draw_one(
            position: jax.Array, knee: jax.Array, strengths: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            key = jax.random.fold_in(step_key, position)
            plan = _plan(key, 0, knee, Bias(*strengths), *ends)
            case = _draw(key, plan, layout)
            return case.image[..., None], case.label if settings["masks"] != "exact" else case.exact

        image, label = jax.vmap(draw_one)(batch["position"], batch["knee"], batch["bias"])
        # XLA would draw parts of a case again for each use in augmentation, which triples the cost of drawing.
        image, label = jax.lax.optimization_barrier((image, label))
        return {**batch, "image": image, "label": label}

    return Online(inputs, draw, RANDOM_COLUMNS)


def source(
    config: Mapping[str, Any], *, size: tuple[int, int], seed: int, fractions: Sequence[float] | None = None
) -> Source:
    """Return a cohort of phantoms; groups differ by `bias` alone.

    Args:
        config: settings by name:
            `patients`: their number.
            `knees_per_patient`: 1 or 2.
            `bilateral`: whether both knees are on one film.
            `attributes`: attribute -> level -> share of the patients, met exactly up to rounding.
            `bias`: group name -> switch of `case.SWITCHES` -> strength in [0, 1]; a case in several groups gets the
                largest.
            `fov_mm`: smallest and largest height of an image, log-uniform between.
            `randomisation`: minimum and maximum, uniform between; 0 for clinical images, 1 for the wide ranges of
                `ranges`.
            `masks`: `annotated` (with the error of the switch `annotation`), `exact`, or `exact_test`: exact in the
                test split alone, so that a network trained on erroneous masks is scored against the truth.
            `structures`: the label scheme of the masks, `knee` (default) or, for films of one knee, `knee_overlaps`.
            `films`: `plain` (default) or `varied`, with faint patellae, processed contrast, tight crops and more
                (`ranges.VARIED`).
            `online`: whether every training case is new (`Source.online`); False by default.
        size: (H, W) in pixels.
        seed: decides all that is random.
        fractions: shares of train, validation and test, for the switch `representation` and for `exact_test`; None
            if the caller splits later.

    Returns:
        Cases of the scheme `structures`, or `knees` on bilateral films, with the columns `case_id`, `patient_id`,
        `side` (of single knees), the attributes, `kl` (of the worse knee on a bilateral film), `fov_mm`,
        `randomisation`, `bias_<switch>` for every switch, and `split` if `representation` or `exact_test` needs it.

    Raises:
        InputError: a setting is missing or out of range.
    """
    settings = _settings(config, size, seed, fractions)
    _check(settings)
    cases = patients.case_table(settings)
    is_bilateral = settings["bilateral"]
    scheme = "knees" if is_bilateral else settings["structures"]
    layout = _Layout(
        tuple(settings["size"]), is_bilateral, scheme == "knee_overlaps", settings["films"] == "varied"
    )
    plan = _add_drawn_columns(cases, settings, layout)
    cohort = Source(cases, anatomy.SCHEMES[scheme], settings, _reader(cases, settings, layout, plan))
    if config.get("online", False):
        cohort = cohort._replace(online=_online(settings, layout), notes=(ONLINE_NOTE,))
    return cohort


def _add_drawn_columns(cases: pd.DataFrame, settings: Mapping[str, Any], layout: _Layout) -> _Plan:
    """Plan all cases and add `RANDOM_COLUMNS` to their table."""
    seed, numbers = jnp.uint32(settings["seed"]), cases["patient_id"].str[1:].astype(int).to_numpy(np.int32)
    bias = Bias(*(cases[f"bias_{switch}"].to_numpy() for switch in CASE_SWITCHES))
    ends = (jnp.array(settings["fov_mm"]), jnp.array(settings["randomisation"]))
    knees = patients.knee_sides(cases)
    plan: _Plan = jax.device_get(_plan_cases(seed, numbers, knees, bias, *ends))
    grades = np.asarray(plan.grade)
    if layout.bilateral:
        left = _plan_cases(seed, numbers, np.ones_like(knees), bias, *ends)
        grades = np.maximum(grades, np.asarray(left.grade))
    cases["kl"] = groups.categorical(pd.Series([GRADES[grade] for grade in grades]), GRADES)
    cases["fov_mm"], cases["randomisation"] = plan.fov_mm, plan.randomisation
    return plan


def _reader(
    cases: pd.DataFrame, settings: Mapping[str, Any], layout: _Layout, plan: _Plan
) -> Callable[[Sequence[int]], Iterator[Example | InputError]]:
    """Return the function that draws the cases of some rows, in chunks of one shape."""
    is_annotated = np.full(len(cases), settings["masks"] == "annotated")
    if settings["masks"] == "exact_test":
        is_annotated = (cases["split"] != "test").to_numpy()

    def read(rows: Sequence[int]) -> Iterator[Example | InputError]:
        for start in range(0, len(rows), CHUNK):
            chunk = np.asarray(rows[start : start + CHUNK])
            # A short chunk repeats its last case; a shape of its own would need a compilation of its own.
            padded = np.pad(chunk, (0, CHUNK - len(chunk)), mode="edge")
            chunk_plan = jax.tree.map(lambda column, rows=padded: column[rows], plan)
            phantoms = jax.device_get(_draw_chunk(jnp.uint32(settings["seed"]), chunk_plan, layout=layout))
            for k, row in enumerate(chunk):
                label = phantoms.label[k] if is_annotated[row] else phantoms.exact[k]
                yield Example(phantoms.image[k, :, :, None], label, phantoms.spacing[k].astype(np.float32))

    return read
