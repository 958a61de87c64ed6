"""The report's numbers as CSV, tidy: `groups.csv`, `summaries.csv`, `pairs.csv`, `rates.csv`, `rate_tests.csv`."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from kneefair_jax.fairness import family
from kneefair_jax.report import rate_tables
from kneefair_jax.report.rate_tables import ALL
from kneefair_jax.report.text.formatting import blocks
from kneefair_jax.safe_text import is_formula, spreadsheet_cell

_OF_RATES = {"rates.csv": rate_tables.rate_rows, "rate_tests.csv": rate_tables.test_rows}
NAMES = ("groups.csv", "summaries.csv", "pairs.csv", *_OF_RATES)


def tables(report: Mapping[str, Any]) -> dict[str, str]:
    """File name -> CSV with a header; none without rows.

    Args:
        report: `report.json`, its numbers plain. Rows say of which `cohort` they are: `test`, or `external`.

    Returns:
        Undefined numbers are empty cells. Text that a spreadsheet would run as a formula starts with an apostrophe.
    """
    return {name: _csv(of_file) for name, of_file in rows(report).items() if of_file}


def rows(report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """File name -> a row per group, per attribute, per pair, per rate, per test; the argument is that of `tables`."""
    writers = dict(zip(NAMES[:3], (_groups, _summaries, _pairs), strict=True))
    parts = list(_parts(report))
    of_scores = {name: [row for part in parts for row in write(*part)] for name, write in writers.items()}
    return of_scores | {name: list(write(report)) for name, write in _OF_RATES.items()}


type _Part = tuple[dict[str, Any], Mapping[str, Any], Sequence[str], Mapping[str, Any]]


def _parts(report: Mapping[str, Any]) -> Iterator[_Part]:
    """Every score of all structures and of each: the cells that name it, its numbers, the attributes, pooled means."""
    attributes = report["cohort"]["attributes"]
    primary = family.from_report(report).score
    for cohort, holder in (("test", report), ("external", report.get("external") or {"scores": {}})):
        for score, scores in holder["scores"].items():
            # A table of one score a case has a structure of the name `ALL`, whose rows would be these again.
            for structure, part in ({ALL: scores} | scores["structures"] | {ALL: scores}).items():
                pooled = (holder.get("pooled") or {}) if (score, structure) == (primary, ALL) else {}
                yield {"cohort": cohort, "score": score, "structure": structure}, part, attributes, pooled


def _groups(
    where: dict[str, Any], part: Mapping[str, Any], attributes: Sequence[str], pooled: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    def row(attribute: str, group: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **where,
            "attribute": attribute,
            "group": group,
            "patients": entry["patients"],
            "cases": entry["cases"],
            "mean": entry["mean"],
            **_ends("", entry["interval"]),
            "ranked": entry.get("ranked"),
            "pooled": pooled.get(group, {}).get("mean"),
            **_ends("pooled_", pooled.get(group, {}).get("interval")),
        }

    yield row("", "all", part["overall"])
    for block in blocks(part["groups"], attributes):
        for name in block.labels:
            yield row(block.key, name, part["groups"][name])


def _summaries(where: dict[str, Any], part: Mapping[str, Any], *_: Any) -> Iterator[dict[str, Any]]:
    for attribute, summary in part["summaries"].items():
        row = {**where, "attribute": attribute, "worst_group": (summary.get("worst") or {}).get("group")}
        for key in ("worst", "gap", "sd", "ser", "es"):
            entry = summary.get(key) or {}
            name = "worst_error" if key == "worst" else key
            row |= {name: entry.get("value"), **_ends(f"{name}_", entry.get("interval"))}
        gap = summary.get("gap_without_failures") or {}
        row |= {"gap_without_failures": gap.get("value")}
        for key in ("interval", "interval_adjusted"):
            row |= _ends(f"gap_without_failures_{'adjusted_' * key.endswith('adjusted')}", gap.get(key))
        ser, test = summary.get("ser") or {}, summary.get("test") or {}
        beyond = ser.get("beyond_size") or {}
        rank, equivalence = summary.get("rank") or {}, summary.get("equivalence") or {}
        yield row | {
            "ser_size": ser.get("size"),
            "ser_beyond_size": beyond.get("value"),
            **_ends("ser_beyond_size_", beyond.get("interval")),
            "test": test.get("name"),
            "statistic": test.get("statistic"),
            **{key: test.get(key) for key in ("p", "p_holm", "p_bh")},
            "rank_test": rank.get("name"),
            "rank_p": rank.get("p"),
            "detectable": summary.get("detectable"),
            "delta": equivalence.get("delta"),
            "equivalent": equivalence.get("equivalent"),
            "equivalence_confidence": equivalence.get("confidence"),
            "warnings": " ".join(summary.get("warnings") or []),
        }


def _pairs(where: dict[str, Any], part: Mapping[str, Any], *_: Any) -> Iterator[dict[str, Any]]:
    for attribute, summary in part["summaries"].items():
        within = (summary.get("equivalence") or {}).get("intervals") or []
        for i, pair in enumerate(summary.get("pairs") or []):
            yield {
                **where,
                "attribute": attribute,
                "first": pair["first"],
                "second": pair["second"],
                "difference": pair["difference"],
                **_ends("", pair.get("interval")),
                **_ends("adjusted_", pair.get("interval_adjusted")),
                **_ends("welch_", pair.get("welch")),
                "difference_all_patients": (pair.get("all_patients") or {}).get("difference"),
                **_ends("all_patients_", (pair.get("all_patients") or {}).get("interval")),
                **_ends("equivalence_", within[i] if i < len(within) else None),
                **{
                    key: pair.get(key)
                    for key in ("p", "p_holm", "p_brunner_munzel", "p_mann_whitney", "cliffs_delta")
                },
            }


def _ends(prefix: str, interval: Sequence[float | None] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else spreadsheet_cell(value)


def guarded(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its texts, and names of columns, safe to open in a spreadsheet."""
    texts = {
        str(name): _guarded(table[name]) for name in table if not pd.api.types.is_numeric_dtype(table[name])
    }
    return table.assign(**texts).rename(columns=spreadsheet_cell)


def _guarded(column: pd.Series) -> pd.Series:
    texts = {value for value in column.unique() if isinstance(value, str)}
    formulas = {text: spreadsheet_cell(text) for text in texts if is_formula(text)}
    return column.astype(object).map(lambda cell: formulas.get(cell, cell)) if formulas else column
