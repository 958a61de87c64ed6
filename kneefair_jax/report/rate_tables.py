"""Rows of `rates.csv` and `rate_tests.csv`: failed segmentations and thresholds by group, and their exact tests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kneefair_jax.fairness.patient_table import ALL_STRUCTURES
from kneefair_jax.report.text.formatting import blocks

ALL = ALL_STRUCTURES


def rate_rows(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row per endpoint, structure and group, and one of all patients."""
    for where, endpoint, attributes in _endpoints(report):
        overall = {"count": endpoint["count"], "rate": endpoint["overall"]}
        yield _rate(where | {"structure": ALL}, "", "all", overall)
        yield from _group_rates(where | {"structure": ALL}, endpoint["groups"], attributes)
        for structure, part in endpoint["structures"].items():
            yield from _group_rates(where | {"structure": structure}, part["groups"], attributes)


def test_rows(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row per test: of all ranked groups, of a pair, of a small group against all other patients, and of means."""
    for where, endpoint, _ in _endpoints(report):
        for attribute, comparison in endpoint["comparisons"].items():
            cells = where | {"structure": ALL, "attribute": attribute}
            if comparison["test"]:
                yield _test(cells, "ranked groups", "", "", comparison["test"])
            for pair in comparison["pairs"]:
                yield _test(cells, "pair", pair["first"], pair["second"], pair["difference"])
            for group, test in comparison["unranked"].items():
                yield _test(cells, "small group", group, "all others", test)
        for structure, part in endpoint["structures"].items():
            for attribute, test in part["tests"].items():
                yield _test(
                    where | {"structure": structure, "attribute": attribute}, "ranked groups", "", "", test
                )
    for cohort, rates in _cohorts(report):
        for score, by_attribute in rates["small_groups"].items():
            for attribute, of_attribute in by_attribute.items():
                cells = {
                    "cohort": cohort,
                    "endpoint": f"mean {score}",
                    "structure": ALL,
                    "attribute": attribute,
                }
                for group, test in of_attribute.items():
                    yield _test(cells, "small group", group, "all others", test)


def _cohorts(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for cohort, holder in (("test", report), ("external", report.get("external") or {})):
        if holder.get("rates"):
            yield cohort, holder["rates"]


def _endpoints(
    report: Mapping[str, Any],
) -> Iterator[tuple[dict[str, Any], Mapping[str, Any], Sequence[str]]]:
    """The cells that name an endpoint, its numbers, the attributes; without those that could not be computed."""
    for cohort, rates in _cohorts(report):
        for name, endpoint in rates["endpoints"].items():
            if endpoint["reason"] is None:
                # A threshold of failures is a setting, and the file says it.
                text = f"dice<{endpoint['threshold']:g}" if name == "failure" else name
                yield {"cohort": cohort, "endpoint": text}, endpoint, report["cohort"]["attributes"]


def _group_rates(
    where: dict[str, Any], entries: Mapping[str, Any], attributes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for block in blocks(entries, attributes):
        for name in block.labels:
            yield _rate(where, block.key, name, entries[name])


def _rate(where: dict[str, Any], attribute: str, group: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    low, high = entry["rate"]["interval"] or (None, None)
    return {
        **where,
        "attribute": attribute,
        "group": group,
        "patients": entry["rate"]["n"],
        "count": entry["count"],
        "rate": entry["rate"]["estimate"],
        "low": low,
        "high": high,
        "ranked": entry.get("ranked"),
    }


def _test(
    where: dict[str, Any], comparison: str, first: str, second: str, test: Mapping[str, Any]
) -> dict[str, Any]:
    low, high = test["interval"] or (None, None)
    return {
        **where,
        "comparison": comparison,
        "first": first,
        "second": second,
        "patients": test["n"],
        "difference": test["estimate"],
        "low": low,
        "high": high,
        "p": test["p"],
        "p_adjusted": test["p_adjusted"],
        "method": test["method"],
    }
