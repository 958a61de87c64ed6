"""Present the result of `check`: as lines of the log, and as `faults.csv`, a row per case and fault."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kneefair_jax import label_errors
from kneefair_jax.data import inspection, readers
from kneefair_jax.preflight import group_sizes
from kneefair_jax.report import csv_tables
from kneefair_jax.runtime import atomic
from kneefair_jax.safe_text import strip_paths

TABLE = "faults.csv"
_MAX_LISTED = 10  # cases of each kind of fault in the log
_MIN_MEDIAN_DICE = 0.7  # with the network; below it, the network is at fault and not the masks
COLUMNS = ("cohort", "case_id", "fault", "detail")
_MAX_NAMED = 3  # other cases that a row names
# The details of these name cases, whose identifiers stay as they are.
_IDENTICAL_MASK, _IDENTICAL_FILM, _DUPLICATE = "identical mask", "identical film", "near-duplicate film"


def table(result: Mapping[str, Any], names: Sequence[str]) -> pd.DataFrame:
    """Return `COLUMNS`, a row per case and fault.

    Args:
        result: the content of `check.json`.
        names: its keys for cohorts, `cohort` and `external`.
    """
    rows = [
        (name, case_id, fault, detail)
        for name in names
        for case_id, fault, detail in _of_cohort(result[name])
    ]
    for kind, noun in ((_IDENTICAL_MASK, "mask"), (_IDENTICAL_FILM, "film")):
        for group in result[f"identical_{noun}s"]:
            rows += [
                (name, case, kind, f"the same {noun} as {copies}") for name, case, copies in _copies(group)
            ]
    for pair in result["near_duplicates"]:
        for place in (0, 1):
            detail = f"nearly the same film as {pair['cases'][1 - place]} (likeness {pair['likeness']:.2f})"
            rows.append((pair["cohorts"][place], pair["cases"][place], _DUPLICATE, detail))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _copies(group: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the cohort of each case of a group, the case, and the first other cases in words."""
    cases = group["cases"]
    for name, case_id in zip(group["cohorts"], cases, strict=True):
        copies = [case for case in cases[: _MAX_NAMED + 1] if case != case_id][:_MAX_NAMED] or cases[:1]
        more = len(cases) - 1 - len(copies)
        yield name, case_id, ", ".join(copies) + (f" and {more} more" if more > 0 else "")


def write(path: Path, faults: pd.DataFrame, folders: Sequence[Path]) -> None:
    """Write the table as CSV, without formulas, and without absolute paths in details; identifiers stay as they are.

    `folders` are those of `safe_text.strip_paths`.
    """
    names_cases = faults["fault"].isin([_IDENTICAL_MASK, _IDENTICAL_FILM, _DUPLICATE])
    details = faults["detail"].map(lambda text: strip_paths(text, *folders))
    texts = faults.assign(detail=faults["detail"].where(names_cases, details))
    atomic.write_text(path, csv_tables.escape_formulas(texts).to_csv(index=False))


def _of_cohort(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for case_id, reason in entry["unreadable"]:
        yield case_id, "unreadable", reason
    for case in entry["orientation"]["turned"]:
        yield str(case["case_id"]), "orientation", f"the mask fits its film better with {case['orientation']}"
    for case_id in entry["interpolated"]:
        yield case_id, "interpolated labels", "a thin rim between two structures has the label of a third"
    for case_id, notes in entry["header_notes"].items():
        for note in notes:
            yield case_id, "header", note
    for case_id in entry["unknown_spacing"]:
        yield case_id, "spacing", "neither header nor table states the size of a pixel; fill in spacing_mm"
    for case in entry.get("label_errors", {}).get("flagged", ()):
        yield str(case["case_id"]), "mask and film", case["reason"]
    for structure, cases in entry["absent"].items():
        for case_id in cases:
            yield case_id, "absent structure", structure
    for case in entry["outliers"]:
        yield str(case["case_id"]), "outlier", "{measure} {value:.4g}, median {median:.4g}".format(**case)


def lines(result: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the log.

    Args:
        result: the content of `check.json`.
        settings: its keys for cohorts -> settings of the cohort's source.
    """
    for note in result["notes"]:
        yield f"note: {note}"
    films = result["identical_films"]
    yield f"films that several patients share: {len(films) or 'none'}"
    for group in films[:_MAX_LISTED]:
        yield f"  {_join(group['cases'])}: pixel for pixel the same film, of {group['patients']} patients"
    pairs = result["near_duplicates"]
    total = len(pairs) + result["near_duplicates_not_listed"]
    yield f"near-duplicate films of different patients: {total or 'none'}"
    for pair in pairs[:_MAX_LISTED]:
        names = (f"{case} ({split})" for case, split in zip(pair["cases"], pair["splits"], strict=True))
        yield f"  {' and '.join(names)}: likeness {pair['likeness']:.2f}"
    if total > _MAX_LISTED:
        yield f"  and {total - _MAX_LISTED} more"
    masks = result["identical_masks"]
    yield f"masks that several cases share: {len(masks) or 'none'}"
    for group in masks[:_MAX_LISTED]:
        yield f"  {_join(group['cases'])}: pixel for pixel the same mask, of {group['patients']} patients"
    for name, of_source in settings.items():
        yield from _lines_of_cohort(result[name], name, of_source)


def _lines_of_cohort(entry: Mapping[str, Any], name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines on one cohort.

    Args:
        entry: of the cohort in `check.json`.
        name: `cohort` or `external`.
        settings: of its source.
    """
    of, cases = "" if name == "cohort" else " of the external cohort", entry["cases"]
    if entry["unreadable"]:
        yield f"WARNING: files{of} that are unreadable or have changed: {len(entry['unreadable'])} cases"
        for case_id, reason in entry["unreadable"][:_MAX_LISTED]:
            yield f"  {case_id}: {' '.join(reason.split())}"
    yield from group_sizes.void_lines(entry["void"], of)
    if entry["interpolated"]:
        faulty = entry["interpolated"]
        yield (
            f"WARNING: interpolated labels in {len(faulty)} of {cases} masks{of}: {_join(faulty)}; where two "
            f"structures meet, a thin rim has the label of a third; {inspection.EXPORT_LABELS}"
        )
    if unknown := entry["unknown_spacing"]:
        yield (
            f"WARNING: no pixel spacing in {len(unknown)} of {cases} films{of}: {_join(unknown)}; areas and distances "
            "in mm are unknown; fill in the column spacing_mm"
        )
    for structure, ids in entry["absent"].items():
        yield f"{structure} is absent from {len(ids)} of {cases} masks{of}: {_join(ids)}"
    yield from _orientation_lines(entry["orientation"], cases, name, settings)
    if "label_errors" in entry:
        yield from _label_error_lines(entry["label_errors"], cases, of, entry["orientation"]["consistent"])
    yield f"outliers{of}: {len(entry['outliers']) or 'none'}"
    for outlier in entry["outliers"][:_MAX_LISTED]:
        yield "  {case_id}: {measure} {value:.4g}, median {median:.4g}".format(**outlier)


def _join(cases: Sequence[str]) -> str:
    return ", ".join(cases[:_MAX_LISTED]) + (" ..." if len(cases) > _MAX_LISTED else "")


def _orientation_lines(
    result: Mapping[str, Any], cases: int, name: str, settings: Mapping[str, Any]
) -> Iterator[str]:
    turned, of = result["turned"], "" if name == "cohort" else " of the external cohort"
    if common := result["consistent"]:
        remedy = "correct their headers"
        current = readers.ORIENTATIONS.get(settings.get("orientation") or "none")
        if settings.get("kind") == "folder" and current is not None:
            flag = "data.orientation" if name == "cohort" else "data.external_orientation"
            value = readers.name_of(current.compose(readers.ORIENTATIONS[common]))
            remedy += f", or (where film or mask states no orientation) give --config.{flag}={value}"
        yield (f"WARNING: {len(turned)} of {cases} masks{of} fit their films only after {common}; {remedy}")
    elif turned:
        yield f"WARNING: {len(turned)} of {cases} masks{of} fit their film better in another orientation; correct them:"
        for one in turned[:_MAX_LISTED]:
            yield "  {case_id}: {orientation}".format(**one)


def _label_error_lines(
    result: Mapping[str, Any], cases: int, of: str, common_orientation: str
) -> Iterator[str]:
    flagged, median_dice = result["flagged"], result["median_dice"]
    if cases < label_errors.MIN_CASES:
        yield f"masks that look wrong{of}: not compared; {cases} cases are fewer than {label_errors.MIN_CASES}"
        return
    grid = "; moves in pixels of the working grid" if flagged else ""
    yield f"masks that look wrong{of}: {len(flagged) or 'none'} of {cases}{grid}"
    if result["unjudged"]:
        yield f"  not compared, in fewer than {label_errors.MIN_CASES} cases: {', '.join(result['unjudged'])}"
    if median_dice is None or median_dice < _MIN_MEDIAN_DICE:
        reason = (
            "the masks are misoriented, see the warning above"
            if common_orientation
            else "the network does not fit these films, so this comparison has little meaning"
        )
        yield f"  median Dice with the network {median_dice or 0:.2f}: {reason}"
    for error in flagged[:_MAX_LISTED]:
        yield "  {case_id}: {reason} (Dice {dice:.2f}, score {score:.1f})".format(**error)
