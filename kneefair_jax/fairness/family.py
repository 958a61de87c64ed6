"""Defines the primary family of a report: the hypotheses that its summary may call significant, corrected together.

The family holds, for each of its attributes, the gap in the mean of the primary score and the difference in failure
rate; for each group that is too small to rank, its mean and its failure rate against all other patients; and for each
pair of attributes, their interaction. One Holm correction covers all of them (Holm, Scandinavian Journal of Statistics
6, 1979), so a page without any true difference claims one in at most 5 % of samples. Everything else in a report is
exploratory and has no corrected p of the family.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import pandas as pd

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.fairness.hypothesis_tests import holm
from kneefair_jax.fairness.interactions import Interaction, interval
from kneefair_jax.fairness.rates import Tally, difference_interval

LEVEL = 0.05
# Scores that need the pixel spacing.
_NEED_SPACING = (*patient_table.MILLIMETRES, "nsd")
MEAN, FAILURE, SMALL_MEAN, SMALL_FAILURE, INTERACTION = (
    "gap in mean",
    "difference in failure rate",
    "mean of a small group",
    "failure rate of a small group",
    "interaction",
)


@dataclass(frozen=True)
class Primary:
    """The prespecified score and attributes of the primary family.

    Attributes:
        score: the score whose mean over structures is compared.
        attributes: the columns whose hypotheses are in the family; None for all attributes of the report.
    """

    score: str = "dice"
    attributes: tuple[str, ...] | None = None

    def covers(self, key: str) -> bool:
        """Return whether an attribute, or both of a pair joined by a comma, are in the family."""
        if self.attributes is None:
            return True
        return key in {*self.attributes, *map(",".join, combinations(self.attributes, 2))}


def parse(text: str, option: str = "--primary") -> Primary:
    """Parse a score with optional attributes: `dice`, `hd95_mm:sex,race`.

    Raises:
        InputError: there is no such score, or an attribute is empty or repeated.
    """
    score, colon, names = text.partition(":")
    attributes = [name.strip() for name in names.split(",")]
    if score not in patient_table.SCORES or (colon and not all(attributes)):
        raise InputError(
            f"{option} {text!r}: write a score, and attributes unless all are primary, such as dice or dice:sex,race; "
            f"scores: {', '.join(patient_table.SCORES)}"
        )
    if len(set(attributes)) < len(attributes):
        raise InputError(f"{option} {text!r}: name each attribute once")
    return Primary(score, tuple(attributes) if colon else None)


def resolve(primary: Primary, attributes: Sequence[str], option: str = "--primary") -> Primary:
    """Return the same with all attributes listed, in the report's order.

    Args:
        primary: as given by the user.
        attributes: of the report.
        option: the name of the setting, for the message.

    Raises:
        InputError: there is no such score, or no such attribute in the report.
    """
    if primary.score not in patient_table.SCORES:
        raise InputError(
            f"{option} {primary.score!r}: there is no such score; give one of {', '.join(patient_table.SCORES)}"
        )
    attributes_in_family = attributes if primary.attributes is None else primary.attributes
    if unknown := [name for name in attributes_in_family if name not in attributes]:
        raise InputError(
            f"{option}: {unknown[0]!r} is not an attribute of the report; give some of "
            f"{', '.join(attributes) or 'no attributes'}, or add it to the attributes"
        )
    return Primary(primary.score, tuple(name for name in attributes if name in attributes_in_family))


def require_measured(primary: Primary, cases: pd.DataFrame, option: str = "--primary") -> None:
    """Check that a long per-case table has the primary score.

    Raises:
        InputError: it does not; the message lists the scores that were measured.
    """
    if primary.score not in (scores := patient_table.measured_scores(cases)):
        reason = "; distances and nsd need the pixel spacing" if primary.score in _NEED_SPACING else ""
        raise InputError(
            f"{option} {primary.score}: no case has this score{reason}; measured are: {', '.join(scores)}"
        )


def from_report(report: Mapping[str, Any]) -> Primary:
    """Return the primary family of a report."""
    return Primary(report["primary"]["score"], tuple(report["primary"]["attributes"]))


class Hypothesis(NamedTuple):
    """A hypothesis of the family.

    Attributes:
        kind: one of `MEAN`, `FAILURE`, `SMALL_MEAN`, `SMALL_FAILURE` and `INTERACTION`.
        attribute: its column, or two joined by a comma.
        group: the small group, or "".
    """

    kind: str
    attribute: str
    group: str = ""


def p_values(
    rates: Mapping[str, Any], interactions: Mapping[str, Any], primary: Primary
) -> dict[Hypothesis, float]:
    """Return all p values of the family except those of gaps in means.

    Args:
        rates: of `endpoints.endpoint_rates`.
        interactions: of `interactions`.
        primary: the score and the attributes of the family.
    """
    hypotheses: dict[Hypothesis, float | None] = {}
    for attribute, comparison in rates["endpoints"]["failure"]["comparisons"].items():
        if comparison["test"]:
            hypotheses[Hypothesis(FAILURE, attribute)] = comparison["test"]["p"]
        for name, test in comparison["unranked"].items():
            hypotheses[Hypothesis(SMALL_FAILURE, attribute, name)] = test["p"]
    for attribute, tests in (rates["small_groups"].get(primary.score) or {}).items():
        for name, test in tests.items():
            hypotheses[Hypothesis(SMALL_MEAN, attribute, name)] = test["p"]
    for key, entry in interactions.items():
        if primary.score in entry:
            hypotheses[Hypothesis(INTERACTION, key)] = entry[primary.score]["p"]
    return {
        hypothesis: p
        for hypothesis, p in hypotheses.items()
        if p is not None and primary.covers(hypothesis.attribute)
    }


def adjust(hypotheses: Mapping[Hypothesis, float]) -> dict[Hypothesis, float]:
    """Return the p values with Holm's correction over the family."""
    return {hypothesis: p for hypothesis, p in holm(hypotheses).items() if p is not None}


def write_adjusted(report: dict[str, Any], hypotheses: Mapping[Hypothesis, float], primary: Primary) -> None:
    """Write adjusted p values into a report's rates and interactions, and the family into its `primary`.

    Failure tests, small groups and interactions outside the family get None.

    Args:
        report: with `rates` and `interactions`; changed in place.
        hypotheses: all of the family, uncorrected.
        primary: the score and the listed attributes of the family (`resolve`).
    """
    p_adjusted = adjust(hypotheses)
    rates = report["rates"]
    for attribute, comparison in rates["endpoints"]["failure"]["comparisons"].items():
        if test := comparison["test"]:
            p = p_adjusted.get(Hypothesis(FAILURE, attribute))
            _scale_pairs(comparison["pairs"], test["p"], p)
            test["p_adjusted"] = p
        for name, test in comparison["unranked"].items():
            test["p_adjusted"] = p_adjusted.get(Hypothesis(SMALL_FAILURE, attribute, name))
        for test in [*(pair["difference"] for pair in comparison["pairs"]), *comparison["unranked"].values()]:
            test["interval_adjusted"] = _failure_interval(test)
    for attribute, tests in (rates["small_groups"].get(primary.score) or {}).items():
        for name, test in tests.items():
            test["p_adjusted"] = p_adjusted.get(Hypothesis(SMALL_MEAN, attribute, name))
    for key, entry in report["interactions"].items():
        if interaction := entry.get(primary.score):
            p = interaction["p_holm"] = p_adjusted.get(Hypothesis(INTERACTION, key))
            level = LEVEL * interaction["p"] / p if p else LEVEL
            interaction["interval_adjusted"] = (
                None if p is None else interval(Interaction(**interaction), primary.score, level)
            )
    members = [
        {**hypothesis._asdict(), "p": hypotheses[hypothesis], "p_adjusted": p}
        for hypothesis, p in p_adjusted.items()
    ]
    statement = {
        "score": primary.score,
        "attributes": list(primary.attributes or ()),
        "failure_dice": rates["failure_dice"],
        "level": LEVEL,
        "correction": "Holm",
        "hypotheses": sorted(list(hypothesis) for hypothesis in p_adjusted),
    }
    digest = hashlib.sha256(json.dumps(statement, sort_keys=True).encode()).hexdigest()
    report["primary"] = {**statement, "hypotheses": members, "sha256": digest}


def _failure_interval(test: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the interval of a difference in failure rate at the level at which the correction judged its p."""
    if not test["p_adjusted"]:
        return None
    first, second = (Tally(*tally) for tally in test["tallies"])
    return difference_interval(first, second, 1 - LEVEL * test["p"] / test["p_adjusted"])


def _scale_pairs(pairs: list[dict[str, Any]], p: float, p_adjusted: float | None) -> None:
    """Correct pairs within their attribute by Holm, and over the family in proportion to the attribute's test."""
    pair_p = holm({k: pair["difference"]["p"] for k, pair in enumerate(pairs)})
    for k, pair in enumerate(pairs):
        p_in_attribute = pair_p[k]
        pair["difference"]["p_adjusted"] = (
            None
            if p_in_attribute is None or p_adjusted is None
            else min(1.0, max(p_adjusted, p_in_attribute * p_adjusted / p if p > 0 else p_in_attribute))
        )
