"""What `check` finds in single cases, as one table: `faults.csv`, a row per case and fault."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kneefair_jax.report import csv_tables
from kneefair_jax.runtime import atomic
from kneefair_jax.safe_text import strip_paths

TABLE = "faults.csv"
COLUMNS = ("cohort", "case_id", "fault", "detail")
_OTHERS = 3  # cases that a row names beside its own
# Their details name cases, whose identifiers stay as they are.
_IDENTICAL_MASK, _IDENTICAL_FILM, _DUPLICATE = "identical mask", "identical film", "near-duplicate film"


def table(result: Mapping[str, Any], parts: Sequence[str]) -> pd.DataFrame:
    """Return `COLUMNS`, a row per case and fault.

    Args:
        result: the content of `check.json`.
        parts: its keys of cohorts, `cohort` and `external`.
    """
    rows = [
        (name, case_id, fault, detail) for name in parts for case_id, fault, detail in _of_part(result[name])
    ]
    for kind, noun in ((_IDENTICAL_MASK, "mask"), (_IDENTICAL_FILM, "film")):
        for group in result[f"identical_{noun}s"]:
            rows += [
                (name, case, kind, f"the same {noun} as {others}") for name, case, others in _others(group)
            ]
    for pair in result["near_duplicates"]:
        for place in (0, 1):
            detail = f"nearly the same film as {pair['cases'][1 - place]} (likeness {pair['likeness']:.2f})"
            rows.append((pair["cohorts"][place], pair["cases"][place], _DUPLICATE, detail))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _others(group: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The cohort of each case of a group, the case, and the first other cases in words."""
    cases = group["cases"]
    for name, case_id in zip(group["cohorts"], cases, strict=True):
        others = [other for other in cases[: _OTHERS + 1] if other != case_id][:_OTHERS] or cases[:1]
        more = len(cases) - 1 - len(others)
        yield name, case_id, ", ".join(others) + (f" and {more} more" if more > 0 else "")


def write(path: Path, faults: pd.DataFrame, folders: Sequence[Path]) -> None:
    """Write the table as CSV, without formulas, and without absolute paths in details; identifiers stay as they are.

    `folders` are those of `safe_text.strip_paths`.
    """
    names_cases = faults["fault"].isin([_IDENTICAL_MASK, _IDENTICAL_FILM, _DUPLICATE])
    details = faults["detail"].map(lambda text: strip_paths(text, *folders))
    texts = faults.assign(detail=faults["detail"].where(names_cases, details))
    atomic.write_text(path, csv_tables.guarded(texts).to_csv(index=False))


def _of_part(part: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for case_id, why in part["unreadable"]:
        yield case_id, "unreadable", why
    for one in part["orientation"]["turned"]:
        yield str(one["case_id"]), "orientation", f"the mask fits its film better with {one['orientation']}"
    for case_id in part["interpolated"]:
        yield case_id, "interpolated labels", "a thin rim between two structures has the label of a third"
    for case_id, notes in part["header_notes"].items():
        for note in notes:
            yield case_id, "header", note
    for one in part.get("suspicious", {}).get("suspects", ()):
        yield str(one["case_id"]), "mask and film", one["reason"]
    for structure, cases in part["absent"].items():
        for case_id in cases:
            yield case_id, "absent structure", structure
    for one in part["outliers"]:
        yield str(one["case_id"]), "outlier", "{measure} {value:.4g}, median {median:.4g}".format(**one)
