"""A cohort of phantom patients with attributes, given shares and a planted bias, as a source of cases."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from kneefair_jax import anatomy, groups
from kneefair_jax.data.phantom.bias import CASE_SWITCHES, SWITCHES, Bias
from kneefair_jax.data.phantom.case import Phantom, draw_case, draw_film, draw_grade
from kneefair_jax.data.phantom.shares import cells, quotas, under_represented
from kneefair_jax.data.source import Example, Online, Source
from kneefair_jax.errors import InputError

VERSION = 3  # to be raised with every change of what a seed draws
CHUNK = 16  # cases rendered at a time; one shape, so one compilation
ONLINE_STREAM = (
    0x4F4E4C49  # separates the keys of online cases from those of patients, which are below 1,000,000
)
SIDES = ("right", "left")
SPLITS = ("train", "validation", "test")
MASKS = ("annotated", "exact", "exact_test")
STRUCTURES = ("knee", "knee_overlaps")
FILMS = ("plain", "varied")
GRADES = ("0", "1", "2", "3", "4")
DRAWN = ("kl", "fov_mm", "randomisation")  # columns that the draw of a case decides
ONLINE_NOTE = (
    "training cases are drawn online, a new one every time; the training patients in tables are not drawn, they give "
    "the shares of groups, sides and biases"
)


def _patients(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Level of each attribute for each patient, and the split where something depends on it; in a random order."""
    attributes, bias = list(settings["attributes"]), settings["bias"]
    shares = cells(settings["attributes"])
    if settings["fractions"]:
        parts = quotas(dict(zip(SPLITS, settings["fractions"], strict=True)), settings["patients"])
        training = under_represented(shares, attributes, bias)
        dealt = [
            (*cell, split)
            for split, size in parts.items()
            for cell, count in quotas(training if split == "train" else shares, size).items()
            for _ in range(count)
        ]
        columns = [*attributes, "split"]
    else:
        dealt = [cell for cell, count in quotas(shares, settings["patients"]).items() for _ in range(count)]
        columns = attributes
    order = np.random.default_rng(settings["seed"]).permutation(len(dealt))
    # No table: before pandas 3.1, `to_dict("records")` of one without columns lists no patient.
    return [dict(zip(columns, dealt[deal], strict=True)) for deal in order]


def _table(settings: Mapping[str, Any]) -> pd.DataFrame:
    """A row per film, with what was planted in it: the strength of each switch, as `bias_<switch>`."""
    rows = []
    for number, levels in enumerate(_patients(settings)):
        name = f"p{number:05d}"
        if settings["bilateral"]:
            rows.append({"case_id": name, "patient_id": name, **levels})
            continue
        # With one knee each, the sides take turns.
        sides = SIDES if settings["knees_per_patient"] == 2 else (SIDES[number % 2],)
        rows += [{"case_id": f"{name}-{side}", "patient_id": name, "side": side, **levels} for side in sides]
    cases = pd.DataFrame(rows)
    if "side" in cases:
        cases["side"] = groups.categorical(cases["side"], SIDES)
    for attribute, levels in settings["attributes"].items():
        cases[attribute] = groups.categorical(cases[attribute], list(levels))
    return cases.assign(**_strengths(cases, settings["bias"]))


def _strengths(cases: pd.DataFrame, bias: Mapping[str, Mapping[str, float]]) -> dict[str, np.ndarray]:
    """For each case the largest strength of each switch among the groups that it belongs to."""
    strengths = {f"bias_{switch}": np.zeros(len(cases), np.float32) for switch in SWITCHES}
    for name, planted in bias.items():
        member = np.ones(len(cases), bool)
        for part in name.split(","):
            attribute, _, level = part.partition("=")
            member &= (cases[attribute] == level).to_numpy()
        for switch, strength in planted.items():
            column = strengths[f"bias_{switch}"]
            column[member] = np.maximum(column[member], np.float32(strength))
    return strengths


def _settings(
    config: Mapping[str, Any], size: tuple[int, int], seed: int, fractions: Sequence[float] | None
) -> dict[str, Any]:
    try:
        bias = _nested(config["bias"])
        # At strength 0, too: a comparison over strengths needs the same patients in validation and test.
        represented = (
            any("representation" in switches for switches in bias.values()) and fractions is not None
        )
        if fractions is None and any(switches.get("representation", 0.0) for switches in bias.values()):
            raise InputError(
                "phantom: the switch 'representation' plants its share in the training split; set data.folds=0"
            )
        if fractions is None and config["masks"] == "exact_test":
            raise InputError(
                "phantom: masks = 'exact_test' needs one test split; set data.folds=0, or give another"
            )
        films = str(config.get("films", FILMS[0]))
        dealt = represented or config["masks"] == "exact_test"
        structures = str(config.get("structures", STRUCTURES[0]))
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
            "fractions": [float(share) for share in fractions or ()] if dealt else None,
            "size": [int(length) for length in size],
            "seed": int(seed),
            # Left out where it is `knee`, so that cases prepared before the field existed stay valid.
            **({} if structures == STRUCTURES[0] else {"structures": structures}),
            # Stores of plain films stay valid.
            **({} if films == FILMS[0] else {"films": films}),
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
            f"phantom: fov_mm = {tuple(fov)}; give the least and the largest height of the picture in mm, "
            "such as (140.0, 140.0)"
        )
    wide = settings["randomisation"]
    if len(wide) != 2 or not 0 <= wide[0] <= wide[1] <= 1:
        raise InputError(
            f"phantom: randomisation = {tuple(wide)}; give the least and the most, from 0 to 1, such as (0.0, 0.0)"
        )
    if settings["masks"] not in MASKS:
        raise InputError(f"phantom: masks = {settings['masks']!r}; give one of {MASKS}")
    structures = settings.get("structures", STRUCTURES[0])
    if structures not in STRUCTURES:
        raise InputError(f"phantom: structures = {structures!r}; give one of {STRUCTURES}")
    if settings["bilateral"] and structures != STRUCTURES[0]:
        raise InputError(
            f"phantom: structures = {structures!r} is for films of one knee; set bilateral = False, or structures = "
            f"{STRUCTURES[0]!r}"
        )
    if settings.get("films", FILMS[0]) not in FILMS:
        raise InputError(f"phantom: films = {settings['films']!r}; give one of {FILMS}")
    if min(settings["size"]) < 1:
        raise InputError(f"phantom: size = {settings['size']}; give a height and a width in pixels")
    shares = settings["attributes"]
    for attribute, levels in shares.items():
        if min(levels.values(), default=-1) < 0 or abs(sum(levels.values()) - 1) > 1e-6:
            raise InputError(
                f"phantom: the shares of {attribute!r} are {levels}; give each level a share, 1 in all"
            )
    known = [f"{attribute}={level}" for attribute, levels in shares.items() for level in levels]
    for name, switches in settings["bias"].items():
        if not set(name.split(",")) <= set(known):
            raise InputError(f"phantom: bias for {name!r}, but the groups are {known}, or several by commas")
        for switch, strength in switches.items():
            if switch not in SWITCHES:
                raise InputError(f"phantom: {name!r} has no switch {switch!r}; there are {SWITCHES}")
            if not 0 <= strength <= 1:
                raise InputError(
                    f"phantom: {switch!r} of {name!r} is {strength}; give a strength from 0 to 1"
                )


def _nested(tree: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {name: {key: float(value) for key, value in inner.items()} for name, inner in tree.items()}


def _key(seed: jax.Array, patient: jax.Array) -> jax.Array:
    """A patient's own key, so that a case does not depend on those around it."""
    return jax.random.fold_in(jax.random.key(seed), patient)


class _Plan(NamedTuple):
    """What is settled of each case before it is drawn, [N] each."""

    patient: Any  # i32
    knee: Any  # i32, 0 right, 1 left
    bias: Bias  # of f32
    fov_mm: Any  # f32
    randomisation: Any  # f32
    grade: Any  # i32


def _plan(
    key: jax.Array,
    patient: jax.Array | int,
    knee: jax.Array,
    strengths: Bias,
    fov_mm: jax.Array,
    randomisation: jax.Array,
) -> _Plan:
    """The plan of one case of a patient's key."""
    places = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 5), knee), (2,))
    width = randomisation[0] + (randomisation[1] - randomisation[0]) * places[0]
    fov = fov_mm[0] * (fov_mm[1] / fov_mm[0]) ** places[1]
    return _Plan(patient, knee, strengths, fov, width, draw_grade(key, knee, strengths, width))


class _Layout(NamedTuple):
    """What all cases of a cohort share; static, so that a program is compiled for each."""

    size: tuple[int, int]
    bilateral: bool
    overlaps: bool
    varied: bool


def _draw(key: jax.Array, case: _Plan, layout: _Layout) -> Phantom:
    """One case of a patient's key as its plan says."""
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
def _planned(
    seed: jax.Array,
    patients: jax.Array,
    knees: jax.Array,
    bias: Bias,
    fov_mm: jax.Array,
    randomisation: jax.Array,
) -> _Plan:
    def one(patient: jax.Array, knee: jax.Array, strengths: Bias) -> _Plan:
        return _plan(_key(seed, patient), patient, knee, strengths, fov_mm, randomisation)

    return jax.vmap(one)(patients, knees, bias)


@functools.partial(jax.jit, static_argnames="layout")
def _draw_chunk(seed: jax.Array, plan: _Plan, *, layout: _Layout) -> Phantom:
    return jax.vmap(lambda case: _draw(_key(seed, case.patient), case, layout))(plan)


def _online(settings: Mapping[str, Any], layout: _Layout) -> Online:
    """New cases of the population that these settings describe; each is drawn as a stored case would be."""
    ends = jnp.array(settings["fov_mm"]), jnp.array(settings["randomisation"])

    def inputs(cases: pd.DataFrame) -> dict[str, np.ndarray]:
        strengths = cases[[f"bias_{switch}" for switch in CASE_SWITCHES]].to_numpy(np.float32)
        return {"knee": _knees(cases), "bias": strengths}

    def draw(
        stage: int, seed: jax.Array, step: jax.Array, batch: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        # Each stage of a schedule starts at step 0.
        cohort_key = jax.random.fold_in(jax.random.key(settings["seed"]), ONLINE_STREAM + stage)
        step_key = jax.random.fold_in(jax.random.fold_in(cohort_key, seed), step)

        def one(position: jax.Array, knee: jax.Array, strengths: jax.Array) -> tuple[jax.Array, jax.Array]:
            key = jax.random.fold_in(step_key, position)
            plan = _plan(key, 0, knee, Bias(*strengths), *ends)
            case = _draw(key, plan, layout)
            return case.image[..., None], case.label if settings["masks"] != "exact" else case.exact

        image, label = jax.vmap(one)(batch["position"], batch["knee"], batch["bias"])
        return {**batch, "image": image, "label": label}

    return Online(inputs, draw, DRAWN)


def _knees(cases: pd.DataFrame) -> np.ndarray:
    """i32[N], 0 right, 1 left; 0 for films of both knees."""
    if "side" not in cases:
        return np.zeros(len(cases), np.int32)
    return (cases["side"] == "left").to_numpy(np.int32)


def source(
    config: Mapping[str, Any], *, size: tuple[int, int], seed: int, fractions: Sequence[float] | None = None
) -> Source:
    """A cohort of phantoms; no group differs from another unless `bias` says so.

    Args:
        config: `patients`; `knees_per_patient`, 1 or 2; `bilateral`, whether both are on one film; `attributes`,
            attribute -> level -> share of the patients, met exactly up to rounding; `bias`, group name -> switch of
            `bias.SWITCHES` -> strength in [0, 1], where a case in several groups gets the largest; `fov_mm`, the
            least and the largest height of a picture (log-uniform between); `randomisation`, the least and the most
            (uniform between), 0 for clinical pictures, 1 for the wide ranges of `ranges`; `masks`, `annotated` (with
            the switch `annotation`'s error), `exact`, or `exact_test`: exact in the test split alone, so that what
            such an error does to a network is measured against the truth; `structures`, the label scheme of the masks,
            `knee` (by default) or `knee_overlaps`, of films of one knee; `films`, `plain` (by default) or
            `varied`: with weak patellae, processed contrast, tight crops and more (`ranges.VARIED`); `online` (default
            False), whether every training case is new (`Source.online`).
        size: (H, W) in pixels.
        seed: decides everything that is random.
        fractions: shares of train, validation and test, for the switch `representation` and for `exact_test`; None
            where somebody else splits later.

    Returns:
        Cases of the scheme `structures`, or `knees` on bilateral films, with the columns `case_id`, `patient_id`,
        `side` (of single knees), the attributes, `kl` (of the worse knee on a bilateral film), `fov_mm`,
        `randomisation`, `bias_<switch>` for every switch, and `split` where `representation` or `exact_test` needs it.

    Raises:
        InputError: a setting is missing or cannot be met.
    """
    settings = _settings(config, size, seed, fractions)
    _check(settings)
    cases = _table(settings)
    patients = cases["patient_id"].str[1:].astype(int).to_numpy(np.int32)
    bilateral = settings["bilateral"]
    scheme = "knees" if bilateral else settings.get("structures", STRUCTURES[0])
    layout = _Layout(
        tuple(settings["size"]), bilateral, scheme == "knee_overlaps", settings.get("films") == "varied"
    )
    bias = Bias(*(cases[f"bias_{switch}"].to_numpy() for switch in CASE_SWITCHES))
    ends = (jnp.array(settings["fov_mm"]), jnp.array(settings["randomisation"]))
    knees = _knees(cases)
    plan = jax.device_get(_planned(jnp.uint32(seed), patients, knees, bias, *ends))
    as_drawn = np.full(len(cases), settings["masks"] == "annotated")
    if settings["masks"] == "exact_test":
        as_drawn = (cases["split"] != "test").to_numpy()
    grades = plan.grade
    if bilateral:
        other = _planned(jnp.uint32(seed), patients, np.ones_like(knees), bias, *ends)
        grades = np.maximum(grades, np.asarray(other.grade))
    cases["kl"] = groups.categorical(pd.Series([GRADES[grade] for grade in grades]), GRADES)
    cases["fov_mm"], cases["randomisation"] = plan.fov_mm, plan.randomisation

    def read(rows: Sequence[int]) -> Iterator[Example | InputError]:
        for start in range(0, len(rows), CHUNK):
            few = np.asarray(rows[start : start + CHUNK])
            # A short chunk repeats its last case rather than have a shape, and a compilation, of its own.
            padded = np.pad(few, (0, CHUNK - len(few)), mode="edge")
            these = jax.tree.map(lambda column, rows=padded: column[rows], plan)
            drawn = jax.device_get(_draw_chunk(jnp.uint32(seed), these, layout=layout))
            for k, row in enumerate(few):
                label = drawn.label[k] if as_drawn[row] else drawn.exact[k]
                yield Example(drawn.image[k, :, :, None], label, drawn.spacing[k].astype(np.float32))

    if not config.get("online", False):
        return Source(cases, anatomy.SCHEMES[scheme], settings, read)
    drawing = _online(settings, layout)
    return Source(cases, anatomy.SCHEMES[scheme], settings, read, online=drawing, notes=(ONLINE_NOTE,))
