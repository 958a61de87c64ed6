"""Defines binary endpoints of a case: failed segmentations, absent predictions, and scores that reach a threshold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.fairness.patient_table import MACRO, Column, Table

FAILURE, ABSENT = "failure", "absent"
# Some scores are stored as float32, where 0.9 is 0.89999998 and must still reach 0.9.
_ROUNDING = 1e-6
_FORM = re.compile(r"(?P<score>[a-z0-9_]+)(?P<sign>[<>]=)(?P<threshold>[0-9]+(\.[0-9]+)?)")


@dataclass(frozen=True)
class Endpoint:
    """A binary property of a case, and of a patient by all of the patient's cases.

    Attributes:
        name: `failure`, `absent`, or a threshold such as `dice>=0.9`.
        score: the score that defines it; None if areas define it.
        threshold: in the score's unit.
        adverse: whether the reported rate counts patients with the event (`failure`, `absent`); the rate of a threshold
            counts patients who reach it in every case.
    """

    name: str
    score: str | None = None
    threshold: float | None = None
    adverse: bool = False


class EndpointSettings(NamedTuple):
    """The prespecified endpoints of a report.

    Attributes:
        failure_dice: a segmentation with a lower Dice counts as failed.
        thresholds: as `parse` reads them.
    """

    failure_dice: float = patient_table.FAILURE_DICE
    thresholds: tuple[str, ...] = ("dice>=0.9", "hd95_mm<=5")


def parse(texts: Sequence[str], option: str = "--endpoint") -> tuple[Endpoint, ...]:
    """Read thresholds such as `dice>=0.9` and `hd95_mm<=5`.

    Args:
        texts: score, `>=` for an overlap or `<=` for a distance, and a number in decimal notation.
        option: the name of the setting, for the message.

    Raises:
        InputError: a text has another form, an unknown score, the wrong direction or an impossible threshold, or
            occurs twice.
    """
    endpoints: dict[str, Endpoint] = {}
    for text in texts:
        match = _FORM.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
        if match is None or match["score"] not in patient_table.SCORES:
            raise InputError(
                f"{option} {text!r}: write score>=number for an overlap, such as dice>=0.9, or score<=number for a "
                f"distance, such as hd95_mm<=5; scores: {', '.join(patient_table.SCORES)}"
            )
        score, threshold = match["score"], float(match["threshold"])
        sign = "<=" if score in patient_table.LOWER_IS_BETTER else ">="
        if match["sign"] != sign:
            better = "lower" if sign == "<=" else "higher"
            raise InputError(
                f"{option} {text!r}: a {better} {score} is better; write {score}{sign}{threshold:g}"
            )
        if not threshold > 0 or (score in patient_table.SHARES and threshold > 1):
            allowed = "above 0 and at most 1" if score in patient_table.SHARES else "above 0 mm"
            raise InputError(f"{option} {text!r}: give a threshold {allowed}")
        name = f"{score}{sign}{threshold:g}"
        if name in endpoints:
            raise InputError(f"{option} {text!r}: give each endpoint once")
        endpoints[name] = Endpoint(name, score, threshold)
    return tuple(endpoints.values())


def check(settings: EndpointSettings, failure_option: str, endpoint_option: str) -> None:
    """Check the thresholds.

    Raises:
        InputError: a threshold is out of range; the message names the option, its value and the range.
    """
    if not 0 < settings.failure_dice < 1:
        raise InputError(
            f"{failure_option}={settings.failure_dice}: give a Dice above 0 and below 1, such as 0.5"
        )
    parse(settings.thresholds, endpoint_option)


def report_endpoints(settings: EndpointSettings) -> tuple[Endpoint, ...]:
    """Return every endpoint of a report, in the order to report them."""
    return (
        Endpoint(FAILURE, "dice", settings.failure_dice, adverse=True),
        Endpoint(ABSENT, adverse=True),
        *parse(settings.thresholds),
    )


def adverse_cases(
    endpoint: Endpoint, cases: pd.DataFrame, table: Table, structures: Sequence[str]
) -> np.ndarray | str:
    """Return which cases have the adverse event: a failure, an absent prediction, or a missed threshold.

    The event of all structures together occurs if it occurs in any of them. A structure that is absent from ground
    truth and prediction (undefined Dice) has no event.

    Args:
        endpoint: of `report_endpoints`.
        cases: the long per-case table.
        table: `patient_table.table` of the same cases.
        structures: in the order to report them.

    Returns:
        f64[N, 1 + S] of 0, 1 and NaN (unknown): all structures together, then each structure. If excluding unknown
        events would bias every rate, the reason why the endpoint cannot be computed.
    """
    if endpoint.name == FAILURE:
        assert endpoint.threshold is not None
        failed = patient_table.failures(cases, table, endpoint.threshold - _ROUNDING)
        columns = _columns(table, "dice", (MACRO, *structures))
        return np.where(np.isnan(table.values[:, columns]), np.nan, failed[:, columns])
    dice = table.values[:, _columns(table, "dice", structures)]
    event = (
        _absent_events(cases, table, structures, dice)
        if endpoint.name == ABSENT
        else _missed_events(endpoint, table, structures, dice)
    )
    if isinstance(event, str):
        return event
    has_dice, has_event = ~np.isnan(dice), ~np.isnan(event)
    complete = has_dice.any(1) & (has_event | ~has_dice).all(1)
    any_event = np.where(complete, np.where(has_event, event, 0.0).max(1, initial=0.0), np.nan)
    return np.column_stack([any_event, event])


def _absent_events(
    cases: pd.DataFrame, table: Table, structures: Sequence[str], dice: np.ndarray
) -> np.ndarray | str:
    # A structure of the ground truth without any predicted pixel has Dice 0 and no predicted area.
    predicted_area = np.full_like(dice, np.nan)
    if "pred_area_mm2" in cases:
        for s, structure in enumerate(structures):
            rows = cases[cases["structure"] == structure].set_index("case_id")
            predicted_area[:, s] = rows["pred_area_mm2"].reindex(table.rows.index)
    no_overlap = dice == 0
    unknown_area = no_overlap & np.isnan(predicted_area)
    if unknown_area.any():
        # Predictions with overlap are not absent, so excluding the unknown ones would lower every rate.
        return (
            f"the predicted area is unknown for {int(unknown_area.sum())} of the {int(no_overlap.sum())} structures "
            "with Dice 0, because the pixel spacing is unknown or the scores come without areas"
        )
    return np.where(np.isnan(dice), np.nan, no_overlap & (predicted_area == 0))


def _missed_events(
    endpoint: Endpoint, table: Table, structures: Sequence[str], dice: np.ndarray
) -> np.ndarray | str:
    assert endpoint.score is not None and endpoint.threshold is not None
    if Column(endpoint.score, MACRO) not in table.columns:
        return f"no case has a known {endpoint.score}"
    values = table.values[:, _columns(table, endpoint.score, structures)]
    has_value = ~np.isnan(values)
    if not (has_value & (dice > 0)).any():
        return f"no structure with overlap has a known {endpoint.score}"
    if endpoint.score in patient_table.LOWER_IS_BETTER:
        misses = values > endpoint.threshold + _ROUNDING
    else:
        misses = values < endpoint.threshold - _ROUNDING
    # Many tools give no distance for an empty prediction: a structure without overlap misses its threshold.
    misses = np.where(has_value, misses, np.where(dice == 0, 1.0, np.nan))
    return np.where(np.isnan(dice), np.nan, misses)


def _columns(table: Table, score: str, structures: Sequence[str]) -> list[int]:
    return [table.columns.index(Column(score, structure)) for structure in structures]
