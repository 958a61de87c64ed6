"""A cohort of phantom patients with attributes, given shares and a planted bias, as a source of cases."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from itertools import batched, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from kneefair_jax import anatomy, groups
from kneefair_jax.data.phantom.case import Bias, draw_case
from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError

VERSION = 1  # to be raised with every change of what a seed draws
CHUNK = 16  # cases rendered at a time; one shape, so one compilation
SIDES = ("right", "left")


def quotas(shares: Mapping[str, Mapping[str, float]], patients: int) -> dict[tuple[str, ...], int]:
    """How many patients each intersection of levels gets, by largest remainders.

    Attributes are independent: an intersection's share is the product of its levels' shares. Equal remainders
    are served in the order of the levels.

    Args:
        shares: attribute -> level -> share, each attribute's adding up to 1.
        patients: patients in all.

    Returns:
        A count per intersection, the first attribute slowest; they add up to `patients`.
    """
    cells = list(product(*(levels for levels in shares.values())))
    exact = [
        patients * float(np.prod([shares[a][level] for a, level in zip(shares, cell, strict=True)]))
        for cell in cells
    ]
    # The margin keeps a whole number that floating point has put just below itself.
    counts = [int(np.floor(value + 1e-9)) for value in exact]
    by_remainder = sorted(range(len(cells)), key=lambda i: round(counts[i] - exact[i], 9))
    for i in by_remainder[: patients - sum(counts)]:
        counts[i] += 1
    return dict(zip(cells, counts, strict=True))


def _table(settings: Mapping[str, Any]) -> pd.DataFrame:
    """A row per case; the quotas are dealt to the patients in an order that the seed decides."""
    shares = settings["attributes"]
    dealt = [cell for cell, count in quotas(shares, settings["patients"]).items() for _ in range(count)]
    order = np.random.default_rng(settings["seed"]).permutation(len(dealt))
    rows = []
    for patient, deal in enumerate(order):
        # With one knee each, the sides take turns.
        sides = SIDES if settings["knees_per_patient"] == 2 else (SIDES[patient % 2],)
        name = f"p{patient:05d}"
        levels = dict(zip(shares, dealt[deal], strict=True))
        rows += [{"case_id": f"{name}-{side}", "patient_id": name, "side": side, **levels} for side in sides]
    cases = pd.DataFrame(rows)
    cases["side"] = groups.categorical(cases["side"], SIDES)
    for attribute, levels in shares.items():
        cases[attribute] = groups.categorical(cases[attribute], list(levels))
    return cases


def _strengths(cases: pd.DataFrame, bias: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """f32[N, switches]: for each case the largest strength among the groups that it belongs to."""
    strengths = np.zeros((len(cases), len(Bias._fields)), np.float32)
    for name, switches in bias.items():
        member = np.ones(len(cases), bool)
        for part in name.split(","):
            attribute, _, level = part.partition("=")
            member &= (cases[attribute] == level).to_numpy()
        row = np.array([switches.get(switch, 0.0) for switch in Bias._fields], np.float32)
        strengths[member] = np.maximum(strengths[member], row)
    return strengths


def _check(settings: Mapping[str, Any]) -> None:
    if settings["patients"] < 1:
        raise InputError(f"phantom: patients = {settings['patients']}; give at least 1")
    if settings["knees_per_patient"] not in (1, 2):
        raise InputError(f"phantom: knees_per_patient = {settings['knees_per_patient']}; give 1 or 2")
    if not settings["fov_mm"] > 0:
        raise InputError(f"phantom: fov_mm = {settings['fov_mm']}; give a length above 0, such as 140")
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
            if switch not in Bias._fields:
                raise InputError(f"phantom: {name!r} has no switch {switch!r}; there are {Bias._fields}")
            if not 0 <= strength <= 1:
                raise InputError(
                    f"phantom: {switch!r} of {name!r} is {strength}; give a strength from 0 to 1"
                )


def _nested(tree: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {name: {key: float(value) for key, value in inner.items()} for name, inner in tree.items()}


@functools.partial(jax.jit, static_argnames="size")
def _draw_chunk(
    seed: jax.Array,
    patients: jax.Array,
    knees: jax.Array,
    bias: Bias,
    fov_mm: jax.Array | float,
    *,
    size: tuple[int, int],
) -> tuple[jax.Array, jax.Array]:
    def draw(patient: jax.Array, knee: jax.Array, strengths: Bias) -> tuple[jax.Array, jax.Array]:
        # A patient's own key, so that a case does not depend on those around it.
        key = jax.random.fold_in(jax.random.key(seed), patient)
        return draw_case(key, knee, strengths, size=size, fov_mm=fov_mm)

    return jax.vmap(draw)(patients, knees, bias)


def source(config: Mapping[str, Any], *, size: tuple[int, int], seed: int) -> Source:
    """A cohort of phantoms; no group differs from another unless `bias` says so.

    Args:
        config: `patients`; `knees_per_patient`, 1 or 2; `attributes`, attribute -> level -> share of the
            patients, met exactly up to rounding; `bias`, group name -> switch of `Bias` -> strength in
            [0, 1], where a case in several groups gets the largest; `fov_mm`, side of the square field
            of view.
        size: (H, W) in pixels.
        seed: decides everything that is random.

    Returns:
        Cases of the scheme `knee`, with the columns `case_id`, `patient_id`, `side` and the attributes.

    Raises:
        InputError: a setting is missing or cannot be met.
    """
    try:
        settings: dict[str, Any] = {
            "source": "phantom",
            "version": VERSION,
            "patients": int(config["patients"]),
            "knees_per_patient": int(config["knees_per_patient"]),
            "attributes": _nested(config["attributes"]),
            "bias": _nested(config["bias"]),
            "fov_mm": float(config["fov_mm"]),
            "size": [int(length) for length in size],
            "seed": int(seed),
        }
    except KeyError as error:
        raise InputError(f"phantom: the setting {error} is missing; add it to the config") from None
    _check(settings)
    cases = _table(settings)
    strengths = _strengths(cases, settings["bias"])
    patients = cases["patient_id"].str[1:].astype(int).to_numpy(np.int32)
    knees = (cases["side"] == "left").to_numpy(np.int32)
    spacing = np.float32(settings["fov_mm"]) / np.array(size, np.float32)

    def read(rows: Sequence[int]) -> Iterator[Example]:
        for few in batched(rows, CHUNK):
            # The last chunk repeats its last case rather than have a shape, and a compilation, of its own.
            filled = np.array([*few, *few[-1:] * (CHUNK - len(few))])
            images, labels = _draw_chunk(
                jnp.uint32(seed),
                patients[filled],
                knees[filled],
                Bias(*strengths[filled].T),
                settings["fov_mm"],
                size=tuple(size),
            )
            images, labels = np.asarray(images), np.asarray(labels)
            for k in range(len(few)):
                yield Example(images[k, :, :, None], labels[k], spacing)

    return Source(cases, anatomy.SCHEMES["knee"], settings, read)
