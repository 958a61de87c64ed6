"""Write the report's numbers as tidy CSV: `groups.csv`, `summaries.csv`, `pairs.csv`, `models.csv`, ..."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd

from kneefair_jax.fairness import family
from kneefair_jax.fairness.patient_table import ALL_STRUCTURES
from kneefair_jax.report.schema import (
    Endpoint,
    Estimate,
    External,
    GroupRate,
    Mean,
    PooledMean,
    Report,
    StructureScores,
)
from kneefair_jax.report.text.formatting import attribute_groups
from kneefair_jax.safe_text import is_formula, spreadsheet_cell

NAMES = ("groups.csv", "summaries.csv", "pairs.csv", "rates.csv", "rate_tests.csv", "models.csv")


def tables(report: Report) -> dict[str, str]:
    """Return file name -> CSV with a header; files without rows are omitted.

    Args:
        report: `report.json`, with plain numbers. The column `cohort` of each row is `test` or `external`.

    Returns:
        Undefined numbers are empty cells. Text that a spreadsheet would run as a formula starts with an apostrophe.
    """
    return {name: _csv(file_rows) for name, file_rows in rows(report).items() if file_rows}


def rows(report: Report) -> dict[str, list[dict[str, Any]]]:
    """Return file name -> a row for each group, attribute, pair, rate or test; `report` as for `tables`."""
    parts = list(_parts(report))
    contents = (
        chain.from_iterable(_groups(*part) for part in parts),
        chain.from_iterable(_summaries(*part) for part in parts),
        chain.from_iterable(_pairs(*part) for part in parts),
        rate_rows(report),
        rate_test_rows(report),
        model_rows(report),
    )
    return {name: list(file_rows) for name, file_rows in zip(NAMES, contents, strict=True)}


type _Part = tuple[dict[str, Any], StructureScores, Sequence[str], Mapping[str, PooledMean]]


def _parts(report: Report) -> Iterator[_Part]:
    """Yield every score of all structures and of each: the cells that name it, numbers, attributes, pooled means."""
    attributes = report["cohort"]["attributes"]
    primary = family.from_report(report).score
    for cohort, entry in _cohorts(report):
        for score, scores in entry["scores"].items():
            # A table of one score per case has one structure, `ALL_STRUCTURES`, whose rows would be repeated.
            structures: dict[str, StructureScores] = {ALL_STRUCTURES: scores, **scores["structures"]}
            structures[ALL_STRUCTURES] = scores
            for structure, part in structures.items():
                is_primary = (score, structure) == (primary, ALL_STRUCTURES)
                pooled = entry["pooled"] if is_primary else {}
                yield {"cohort": cohort, "score": score, "structure": structure}, part, attributes, pooled


def _groups(
    cells: dict[str, Any], part: StructureScores, attributes: Sequence[str], pooled: Mapping[str, PooledMean]
) -> Iterator[dict[str, Any]]:
    def row(attribute: str, group: str, entry: Mean) -> dict[str, Any]:
        mean = pooled.get(group)
        return {
            **cells,
            "attribute": attribute,
            "group": group,
            "patients": entry["patients"],
            "cases": entry["cases"],
            "mean": entry["mean"],
            **_ends("", entry["interval"]),
            "ranked": entry.get("ranked"),
            "pooled": mean["mean"] if mean else None,
            **_ends("pooled_", mean["interval"] if mean else None),
        }

    yield row("", "all", part["overall"])
    for groups in attribute_groups(part["groups"], attributes):
        for name in groups.labels:
            yield row(groups.key, name, part["groups"][name])


def _summaries(
    cells: dict[str, Any], part: StructureScores, attributes: Sequence[str], _: Any
) -> Iterator[dict[str, Any]]:
    # The patients of all ranked groups; one with cases in several groups counts in each.
    ranked_patients = {
        groups.key: sum(
            part["groups"][name]["patients"] for name in groups.labels if part["groups"][name]["ranked"]
        )
        for groups in attribute_groups(part["groups"], attributes)
    }
    for attribute, summary in part["summaries"].items():
        row = {
            **cells,
            "attribute": attribute,
            "gap": summary["gap"]["value"],
            **_ends("gap_", summary["gap"]["interval"]),
            "patients": ranked_patients.get(attribute, 0),
            "worst_group": summary["worst"]["group"],
        }
        for key, name in (("worst", "worst_error"), *((key, key) for key in ("sd", "ser", "es"))):
            row |= {name: summary[key]["value"], **_ends(f"{name}_", summary[key]["interval"])}
        gap = summary["gap_without_failures"]
        beyond = summary["ser"]["beyond_size"] or {}
        test, rank, equivalence = (summary[key] or {} for key in ("test", "rank", "equivalence"))
        yield row | {
            "gap_without_failures": gap["value"],
            **_ends("gap_without_failures_", gap["interval"]),
            **_ends("gap_without_failures_adjusted_", gap["interval_adjusted"]),
            "ser_size": summary["ser"]["size"],
            "ser_beyond_size": beyond.get("value"),
            **_ends("ser_beyond_size_", beyond.get("interval")),
            "test": test.get("name"),
            "statistic": test.get("statistic"),
            **{key: test.get(key) for key in ("p", "p_holm", "p_bh")},
            "rank_test": rank.get("name"),
            "rank_p": rank.get("p"),
            "detectable": summary["detectable"],
            "delta": equivalence.get("delta"),
            "equivalent": equivalence.get("equivalent"),
            "equivalence_confidence": equivalence.get("confidence"),
            "warnings": " ".join(summary["warnings"]),
        }


def _pairs(cells: dict[str, Any], part: StructureScores, *_: Any) -> Iterator[dict[str, Any]]:
    for attribute, summary in part["summaries"].items():
        intervals = summary["equivalence"]["intervals"] if summary["equivalence"] else ()
        for i, pair in enumerate(summary["pairs"]):
            yield {
                **cells,
                "attribute": attribute,
                "first": pair["first"],
                "second": pair["second"],
                "difference": pair["difference"],
                **_ends("", pair["interval"]),
                **_ends("adjusted_", pair["interval_adjusted"]),
                **_ends("welch_", pair["welch"]),
                "difference_all_patients": pair["all_patients"]["difference"],
                **_ends("all_patients_", pair["all_patients"]["interval"]),
                **_ends("equivalence_", intervals[i] if i < len(intervals) else None),
                **{
                    key: pair[key]
                    for key in ("p", "p_holm", "p_brunner_munzel", "p_mann_whitney", "cliffs_delta")
                },
            }


def rate_rows(report: Report) -> Iterator[dict[str, Any]]:
    """Yield a row for each endpoint, structure and group, and one for all patients."""
    for cells, endpoint, attributes in _endpoints(report):
        overall = {"count": endpoint["count"], "rate": endpoint["overall"]}
        yield _rate(cells | {"structure": ALL_STRUCTURES}, "", "all", overall)
        yield from _group_rates(cells | {"structure": ALL_STRUCTURES}, endpoint["groups"], attributes)
        for structure, part in endpoint["structures"].items():
            yield from _group_rates(cells | {"structure": structure}, part["groups"], attributes)


def rate_test_rows(report: Report) -> Iterator[dict[str, Any]]:
    """Yield a row for each test: ranked groups, pairs, small groups against all other patients, and means."""
    for endpoint_cells, endpoint, _ in _endpoints(report):
        for attribute, comparison in endpoint["comparisons"].items():
            cells = endpoint_cells | {"structure": ALL_STRUCTURES, "attribute": attribute}
            if comparison["test"]:
                yield _test(cells, "ranked groups", "", "", comparison["test"])
            for pair in comparison["pairs"]:
                yield _test(cells, "pair", pair["first"], pair["second"], pair["difference"])
            for group, difference in comparison["unranked"].items():
                yield _test(cells, "small group", group, "all others", difference)
        for structure, part in endpoint["structures"].items():
            for attribute, test in part["tests"].items():
                cells = endpoint_cells | {"structure": structure, "attribute": attribute}
                yield _test(cells, "ranked groups", "", "", test)
    for cohort, entry in _cohorts(report):
        for score, by_attribute in entry["rates"]["small_groups"].items():
            for attribute, tests in by_attribute.items():
                cells = {
                    "cohort": cohort,
                    "endpoint": f"mean {score}",
                    "structure": ALL_STRUCTURES,
                    "attribute": attribute,
                }
                for group, small_group_test in tests.items():
                    yield _test(cells, "small group", group, "all others", small_group_test)


def model_rows(report: Report) -> Iterator[dict[str, Any]]:
    """Yield a row for each paired change between two models: of the mean, of the gap, and of each group's mean."""
    if "models" not in report:
        return
    for pair in report["models"]["pairs"]:
        attribute = pair["attribute"]
        changes = [("gap", attribute, pair["change_of_gap"])]
        if attribute == report["cohort"]["attributes"][0]:  # each attribute repeats the change of the mean
            changes.insert(0, ("mean", "", pair["change_of_mean"]))
        changes += [("group mean", attribute, change) for change in pair["change_by_group"]]
        for statistic, by, change in changes:
            yield {
                "first": pair["first"],
                "second": pair["second"],
                "score": report["models"]["score"],
                "structure": ALL_STRUCTURES,
                "statistic": statistic,
                "attribute": by,
                "group": change.get("group", ""),
                "patients": change.get("patients", pair["patients"]),
                "first_value": change.get("first"),
                "second_value": change.get("second"),
                "change": change["value"],
                **_ends("", change["interval"]),
                "p": change.get("p"),
                "p_adjusted": change.get("p_holm"),
            }


def _cohorts(report: Report) -> Iterator[tuple[str, Report | External]]:
    yield "test", report
    if external := report.get("external"):
        yield "external", external


def _endpoints(
    report: Report,
) -> Iterator[tuple[dict[str, Any], Endpoint, Sequence[str]]]:
    """Yield the cells that name each computed endpoint, its numbers, and the attributes."""
    for cohort, entry in _cohorts(report):
        for name, endpoint in entry["rates"]["endpoints"].items():
            if endpoint["reason"] is None:
                # The failure threshold is a setting, so its name contains it.
                title = f"dice<{endpoint['threshold']:g}" if name == "failure" else name
                yield {"cohort": cohort, "endpoint": title}, endpoint, report["cohort"]["attributes"]


def _group_rates(
    cells: dict[str, Any], entries: Mapping[str, GroupRate], attributes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for groups in attribute_groups(entries, attributes):
        for name in groups.labels:
            yield _rate(cells, groups.key, name, entries[name])


def _rate(cells: dict[str, Any], attribute: str, group: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **cells,
        "attribute": attribute,
        "group": group,
        "patients": entry["rate"]["n"],
        "count": entry["count"],
        "rate": entry["rate"]["estimate"],
        **_ends("", entry["rate"]["interval"]),
        "ranked": entry.get("ranked"),
    }


def _test(cells: dict[str, Any], comparison: str, first: str, second: str, test: Estimate) -> dict[str, Any]:
    return {
        **cells,
        "comparison": comparison,
        "first": first,
        "second": second,
        "patients": test["n"],
        "difference": test["estimate"],
        **_ends("", test["interval"]),
        "p": test["p"],
        "p_adjusted": test["p_adjusted"],
        "method": test["method"],
    }


def _ends(prefix: str, interval: Sequence[float | None] | None) -> dict[str, float | None]:
    lower, upper = interval or (None, None)
    return {f"{prefix}low": lower, f"{prefix}high": upper}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else spreadsheet_cell(value)


def escape_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Escape texts and column names that a spreadsheet would run as formulas."""
    texts = {
        str(name): _escape_column(table[name])
        for name in table
        if not pd.api.types.is_numeric_dtype(table[name])
    }
    return table.assign(**texts).rename(columns=spreadsheet_cell)


def _escape_column(column: pd.Series) -> pd.Series:
    texts = {value for value in column.unique() if isinstance(value, str)}
    formulas = {text: spreadsheet_cell(text) for text in texts if is_formula(text)}
    return column.astype(object).map(lambda cell: formulas.get(cell, cell)) if formulas else column
