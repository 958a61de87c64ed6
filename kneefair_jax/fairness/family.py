"""The primary family of a report: the hypotheses that its opening may call significant, corrected together.

For each attribute, the gap in the mean score and the difference in failure rate; for each group that is too small to
rank, its mean and its failure rate against all other patients; for each pair of attributes, their interaction. One
Holm correction covers all of them (Holm, Scandinavian Journal of Statistics 6, 1979), so that a page without any true
difference claims one in at most 5 % of samples. Everything else in a report is exploratory.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from kneefair_jax.fairness.interactions import interval
from kneefair_jax.fairness.multiplicity import holm

LEVEL = 0.05
# The score whose macro mean is primary unless another is stated.
SCORE = "dice"
MEAN, FAILURE, SMALL_MEAN, SMALL_FAILURE, INTERACTION = (
    "gap in mean",
    "difference in failure rate",
    "mean of a small group",
    "failure rate of a small group",
    "interaction",
)


class Hypothesis(NamedTuple):
    """One of the family.

    Attributes:
        kind: one of `MEAN`, `FAILURE`, `SMALL_MEAN`, `SMALL_FAILURE` and `INTERACTION`.
        attribute: its column, or two between a comma.
        group: the small group, or "".
    """

    kind: str
    attribute: str
    group: str = ""


def p_values(
    rates: Mapping[str, Any], interactions: Mapping[str, Any], score: str = SCORE
) -> dict[Hypothesis, float]:
    """Return every p value of the family but those of gaps in means.

    Args:
        rates: of `endpoint_rates`.
        interactions: of `interactions`.
        score: the primary one.
    """
    hypotheses: dict[Hypothesis, float | None] = {}
    for attribute, compared in rates["endpoints"]["failure"]["comparisons"].items():
        if compared["test"]:
            hypotheses[Hypothesis(FAILURE, attribute)] = compared["test"]["p"]
        for name, test in compared["unranked"].items():
            hypotheses[Hypothesis(SMALL_FAILURE, attribute, name)] = test["p"]
    for attribute, tests in (rates["small_groups"].get(score) or {}).items():
        for name, test in tests.items():
            hypotheses[Hypothesis(SMALL_MEAN, attribute, name)] = test["p"]
    for key, entry in interactions.items():
        if score in entry:
            hypotheses[Hypothesis(INTERACTION, key)] = entry[score]["p"]
    return {one: p for one, p in hypotheses.items() if p is not None}


def adjusted(hypotheses: Mapping[Hypothesis, float]) -> dict[Hypothesis, float]:
    """Holm's correction over the family."""
    return {one: p for one, p in holm(hypotheses).items() if p is not None}


def write(report: dict[str, Any], hypotheses: Mapping[Hypothesis, float], score: str = SCORE) -> None:
    """Put adjusted p values into a report's rates and interactions, and the family into `primary`.

    Args:
        report: with `rates` and `interactions`; changed in place.
        hypotheses: all of the family, uncorrected.
        score: the primary one.
    """
    corrected = adjusted(hypotheses)
    rates, interactions = report["rates"], report["interactions"]
    for one, p in corrected.items():
        if one.kind == FAILURE:
            compared = rates["endpoints"]["failure"]["comparisons"][one.attribute]
            _scale_pairs(compared["pairs"], compared["test"]["p"], p)
            compared["test"]["p_adjusted"] = p
        elif one.kind == SMALL_FAILURE:
            rates["endpoints"]["failure"]["comparisons"][one.attribute]["unranked"][one.group][
                "p_adjusted"
            ] = p
        elif one.kind == SMALL_MEAN:
            rates["small_groups"][score][one.attribute][one.group]["p_adjusted"] = p
        elif one.kind == INTERACTION:
            entry = interactions[one.attribute][score]
            level = LEVEL * hypotheses[one] / p if p else 0.0
            entry |= {"p_holm": p, "interval_adjusted": interval(entry, score, level)}
    members = [{**one._asdict(), "p": hypotheses[one], "p_adjusted": p} for one, p in corrected.items()]
    stated = {
        "score": score,
        "failure_dice": rates["failure_dice"],
        "level": LEVEL,
        "correction": "Holm",
        "hypotheses": sorted(list(one) for one in corrected),
    }
    digest = hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()
    report["primary"] = {**stated, "hypotheses": members, "sha256": digest}


def _scale_pairs(pairs: list[dict[str, Any]], p: float, p_adjusted: float) -> None:
    """Pairs, corrected by Holm within their attribute, also pay for the rest of the family, like its test."""
    factor = p_adjusted / p if p > 0 else 1.0
    within = holm({k: pair["difference"]["p"] for k, pair in enumerate(pairs)})
    for k, pair in enumerate(pairs):
        own = within[k]
        pair["difference"]["p_adjusted"] = None if own is None else min(1.0, max(p_adjusted, own * factor))
