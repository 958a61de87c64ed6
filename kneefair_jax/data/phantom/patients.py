"""The patients of a cohort: how many each group has, their attributes, and the strengths of the switches."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.cohort import SPLITS
from kneefair_jax.data.phantom.case import SWITCHES

SIDES = ("right", "left")
# The share of its training places that a group keeps at strength 1 of `representation`.
MIN_REPRESENTATION = 0.05

Cell = tuple[str, ...]  # a level of each attribute


def cells(shares: Mapping[str, Mapping[str, float]]) -> dict[Cell, float]:
    """Return the share of each intersection of levels, the product of their shares: attributes are independent."""
    return {
        cell: float(np.prod([shares[a][level] for a, level in zip(shares, cell, strict=True)]))
        for cell in product(*(levels for levels in shares.values()))
    }


def quotas(shares: Mapping[Any, float], count: int) -> dict[Any, int]:
    """Split `count` by shares, by largest remainders; of equal remainders, the first come first.

    Args:
        shares: name -> share, adding up to 1.
        count: the sum of the result.

    Returns:
        name -> count; they add up to `count`.
    """
    names = list(shares)
    exact = [count * shares[name] for name in names]
    # The margin keeps an integer that floating point has put just below itself.
    counts = [int(np.floor(value + 1e-9)) for value in exact]
    by_remainder = sorted(range(len(names)), key=lambda i: round(counts[i] - exact[i], 9))
    for i in by_remainder[: count - sum(counts)]:
        counts[i] += 1
    return dict(zip(names, counts, strict=True))


def under_represented(
    shares: Mapping[Cell, float], attributes: Sequence[str], bias: Mapping[str, Mapping[str, float]]
) -> dict[Cell, float]:
    """Return the shares of training places under the switch `representation`; other groups get what one loses."""
    weights = {}
    for cell, share in shares.items():
        levels = {f"{attribute}={level}" for attribute, level in zip(attributes, cell, strict=True)}
        strength = max(
            (
                switches.get("representation", 0.0)
                for name, switches in bias.items()
                if set(name.split(",")) <= levels
            ),
            default=0.0,
        )
        weights[cell] = share * (1 - (1 - MIN_REPRESENTATION) * strength)
    return {cell: weight / sum(weights.values()) for cell, weight in weights.items()}


def _patients(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the level of each attribute for each patient, with the split if `fractions` is set, in a random order."""
    attributes, bias = list(settings["attributes"]), settings["bias"]
    shares = cells(settings["attributes"])
    if settings["fractions"]:
        sizes = quotas(dict(zip(SPLITS, settings["fractions"], strict=True)), settings["patients"])
        training = under_represented(shares, attributes, bias)
        rows = [
            (*cell, split)
            for split, size in sizes.items()
            for cell, count in quotas(training if split == "train" else shares, size).items()
            for _ in range(count)
        ]
        columns = [*attributes, "split"]
    else:
        rows = [cell for cell, count in quotas(shares, settings["patients"]).items() for _ in range(count)]
        columns = attributes
    order = np.random.default_rng(settings["seed"]).permutation(len(rows))
    # No DataFrame: before pandas 3.1, `to_dict("records")` of one without columns lists no patient.
    return [dict(zip(columns, rows[index], strict=True)) for index in order]


def case_table(settings: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per film: case, patient, side, attributes, and the strength of each switch as `bias_<switch>`."""
    rows = []
    for number, levels in enumerate(_patients(settings)):
        name = f"p{number:05d}"
        if settings["bilateral"]:
            rows.append({"case_id": name, "patient_id": name, **levels})
            continue
        # Patients with one knee alternate between the sides.
        sides = SIDES if settings["knees_per_patient"] == 2 else (SIDES[number % 2],)
        rows += [{"case_id": f"{name}-{side}", "patient_id": name, "side": side, **levels} for side in sides]
    cases = pd.DataFrame(rows)
    if "side" in cases:
        cases["side"] = groups.categorical(cases["side"], SIDES)
    for attribute, levels in settings["attributes"].items():
        cases[attribute] = groups.categorical(cases[attribute], list(levels))
    return cases.assign(**_strengths(cases, settings["bias"]))


def _strengths(cases: pd.DataFrame, bias: Mapping[str, Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Return each case's strength of each switch: the largest among its groups."""
    strengths = {f"bias_{switch}": np.zeros(len(cases), np.float32) for switch in SWITCHES}
    for name, switches in bias.items():
        member = np.ones(len(cases), bool)
        for part in name.split(","):
            attribute, _, level = part.partition("=")
            member &= (cases[attribute] == level).to_numpy()
        for switch, strength in switches.items():
            column = strengths[f"bias_{switch}"]
            column[member] = np.maximum(column[member], np.float32(strength))
    return strengths


def knee_sides(cases: pd.DataFrame) -> np.ndarray:
    """Return the side i32[N] of each case: 0 right, 1 left; 0 for bilateral films."""
    if "side" not in cases:
        return np.zeros(len(cases), np.int32)
    return np.asarray(cases["side"] == "left", np.int32)
