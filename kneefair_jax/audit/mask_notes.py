"""Collect quality warnings about masks that can be scored: notes for the page, and faults of single masks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.audit import mismatch
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.mask_faults import (
    BAND,
    HEADER,
    INTERPOLATED,
    MISSING,
    ORIENTATION,
    OTHER_CASE,
    OUTLIER,
    PAIR_SPACING,
    REFERENCE,
    SAME_PIXELS,
    TABLE_SPACING,
    UNITS,
    Fault,
    FaultyMask,
)
from kneefair_jax.audit.mask_pair import Reading, Summary
from kneefair_jax.audit.mismatch import Fit
from kneefair_jax.audit.scoring import Case, Scored
from kneefair_jax.data import inspection
from kneefair_jax.data.readers import ORIENTATIONS, limits, name_of, orientation
from kneefair_jax.report import build
from kneefair_jax.report.text import formatting

# Faults that explain why a prediction overlaps its reference mask less than others do.
_LOWER_OVERLAP = (INTERPOLATED, BAND, ORIENTATION, OTHER_CASE, SAME_PIXELS)
# A wrong unit changes the spacing and, by its square, the area of the bones. Resized films have other spacings and
# bones of the same area; cropped ones have smaller areas and the same spacing. A factor of 2 makes areas 4 times as
# large, to which the size of the knee adds or subtracts a third; spacings of a cohort differ by some percent.
_SPACING_RATIO, _AREA_RATIO = 1.8, 2.5

# A structure that so many reference masks lack, and predictions have, may not have been annotated.
_UNANNOTATED_CASES, _UNANNOTATED_SHARE = 5, 0.1
# A reference femur that covers this share of the predicted patella was drawn through it.
_COVERED_SHARE = 0.7


class Observations(NamedTuple):
    """Quality warnings.

    Attributes:
        notes: for the page.
        faults: of single masks.
        warnings: short sentences on all masks, for the line above the headline.
    """

    notes: list[str]
    faults: list[FaultyMask]
    warnings: tuple[str, ...] = ()


def of_references(cohort: Cohort, cases: Mapping[str, Case]) -> Observations:
    """Collect the warnings about the reference masks."""
    truth = {case_id: case.truth for case_id, case in cases.items()}
    spacing = np.stack([case.spacing for case in cases.values()])
    header_and_table = (
        (case_id, mask.spacing, stated)
        for (case_id, mask), stated in zip(truth.items(), cohort.spacing, strict=True)
    )
    faults = [
        *_single_faults(truth, REFERENCE),
        *mismatch.copies(truth, REFERENCE),
        *_unit_faults(truth, spacing),
        *_spacing_faults(header_and_table, REFERENCE, TABLE_SPACING),
    ]
    notes = [*_header_notes(truth, "reference mask"), *_spacing_kind_notes(truth, "reference masks")]
    return Observations(notes, faults)


def of_model(
    cohort: Cohort,
    cases: Mapping[str, Case],
    model: str,
    table: pd.DataFrame,
    reading: Reading,
    reference_faults: Sequence[FaultyMask],
) -> Observations:
    """Collect the warnings about the predictions of a model, and about reference masks by comparison with them.

    Args:
        cohort: the cases.
        cases: case id -> its results.
        model: its name.
        table: its long per-case table.
        reading: of the masks.
        reference_faults: of `of_references`.
    """
    of = f" by {model}" if model else ""
    truth = {case_id: case.truth for case_id, case in cases.items()}
    scored = {case_id: case.by_model[model] for case_id, case in cases.items()}
    masks = {case_id: case.mask for case_id, case in scored.items()}
    present = {case_id: mask for case_id, mask in masks.items() if mask is not None}
    fits = {case_id: scored[case_id].fit for case_id in present}
    confusions = {case_id: case.confusion for case_id, case in scored.items() if case.confusion is not None}
    label_note = mismatch.label_note(fits, confusions, reading.structures, float(table["dice"].mean()), of)
    overlaps = _overlaps(truth, scored)
    headers = ((case_id, truth[case_id].spacing, mask.spacing) for case_id, mask in present.items())
    spacing_faults = _spacing_faults(headers, model, PAIR_SPACING)
    other_case_faults = [
        *mismatch.copies(present, model),
        *mismatch.copies_of_references(truth, masks, model),
        *mismatch.exchanged(truth, masks, fits, model),
    ]
    misoriented = {} if label_note else _misoriented(fits, overlaps, other_case_faults)
    orientation_faults = _orientation_faults(misoriented, fits, present, model)
    missing = [FaultyMask(case_id, model, Fault(MISSING)) for case_id in masks if case_id not in present]
    faults = [
        *missing,
        *_single_faults(present, model),
        *orientation_faults,
        *other_case_faults,
        *spacing_faults,
    ]
    explained = {
        faulty.case_id for faulty in [*faults, *reference_faults] if faulty.fault.kind in _LOWER_OVERLAP
    }
    faults += mismatch.outliers(overlaps, explained, model)
    orientation_note = ""
    if not any(faulty.mask == REFERENCE for faulty in orientation_faults):
        orientation_note = mismatch.orientation_note(misoriented, len(fits), of, reading.orientation)
    annotation_note = _annotation_note(cohort, scored, of, reading)
    notes = [
        *_header_notes(masks, f"prediction{of}"),
        *build.case_notes(
            cohort.frame,
            cohort.attributes,
            of=of,
            true_pixels=np.array([mask.pixels for mask in truth.values()]),
            pred_pixels=np.array([0 if mask is None else mask.pixels for mask in masks.values()]),
            spacing=np.stack([case.spacing for case in cases.values()]),
        ),
        *_spacing_kind_notes(present, f"predictions{of}"),
        *_pair_spacing_kind_notes(truth, masks, of),
        *_pair_notes(cohort, scored, {faulty.case_id for faulty in spacing_faults}, of, reading),
        *filter(None, (annotation_note, label_note, orientation_note)),
    ]
    warnings = (
        *([f"The labels of the predictions{of} look swapped."] if label_note else []),
        *(
            [f"Many reference masks lack structures that the predictions{of} have."]
            if annotation_note
            else []
        ),
    )
    return Observations(notes, faults, warnings)


def _misoriented(
    fits: Mapping[str, Fit | None], overlaps: Mapping[str, float], faults: Sequence[FaultyMask]
) -> dict[str, Fit]:
    """Return `mismatch.misoriented` without exchanged masks, which may fit better after a turn.

    It includes identical masks: one of two copies, or both, may be turned, so both faults are named.
    """
    misoriented = mismatch.misoriented(fits, overlaps)
    if 2 * len(misoriented) > len(fits):  # most masks of a cohort are not those of another case
        return misoriented
    mismatched = {faulty.case_id for faulty in faults if faulty.fault.kind == OTHER_CASE}
    return {case_id: fit for case_id, fit in misoriented.items() if case_id not in mismatched}


def combine(faults: Sequence[FaultyMask]) -> list[FaultyMask]:
    """Return the faults of the masks of all models without repetitions.

    A misoriented reference mask occurs once, whatever its Dice with each model. If the masks of one model reveal a
    fault of a reference mask, that explains its low overlap with another model.
    """
    explained = {
        faulty.case_id
        for faulty in faults
        if faulty.mask == REFERENCE and faulty.fault.kind in _LOWER_OVERLAP
    }
    unique: dict[tuple[str, ...], FaultyMask] = {}
    for faulty in faults:
        detail = "" if faulty.fault.kind == ORIENTATION else faulty.fault.detail
        if faulty.fault.kind != OUTLIER or faulty.case_id not in explained:
            unique.setdefault((faulty.case_id, faulty.mask, faulty.fault.kind, detail), faulty)
    return list(unique.values())


def _orientation_faults(
    misoriented: Mapping[str, Fit],
    fits: Mapping[str, Fit | None],
    masks: Mapping[str, Summary],
    model: str,
) -> list[FaultyMask]:
    """Return, of each misoriented pair, the mask whose orientation differs from most masks.

    Most masks are those of the cases that score well. If no case does, or both masks of a pair agree with them, the
    fault is the prediction's.
    """
    if not misoriented:
        return []
    good = [masks[case_id].thumbnail for case_id, fit in fits.items() if fit is None]
    frequencies = mismatch.frequencies(good) if good else None
    faults = []
    for case_id, fit in misoriented.items():
        remedy, mask = ORIENTATIONS[fit.orientation], model
        predicted = masks[case_id].thumbnail
        if frequencies is not None and mismatch.is_reference_misoriented(
            predicted, remedy.apply(predicted), frequencies
        ):
            remedy, mask = remedy.inverse(), REFERENCE
        detail = f"fits after {name_of(remedy)} (Dice {fit.best:.2f}, not {fit.dice:.2f})"
        faults.append(FaultyMask(case_id, mask, Fault(ORIENTATION, detail)))
    return faults


def _single_faults(masks: Mapping[str, Summary], name: str) -> Iterator[FaultyMask]:
    """Yield the faults that each mask and its header show by themselves."""
    for case_id, mask in masks.items():
        yield from (FaultyMask(case_id, name, fault) for fault in mask.faults)
    for case_id, mask in masks.items():
        yield from (FaultyMask(case_id, name, Fault(HEADER, note)) for note in mask.notes)


def _header_notes(masks: Mapping[str, Summary | None], name: str) -> list[str]:
    notes = [() if mask is None else mask.notes for mask in masks.values()]
    return [f"{name}: {text}" for text in inspection.aggregate_notes(list(masks), notes)]


def _overlaps(truth: Mapping[str, Summary], scored: Mapping[str, Scored]) -> dict[str, float]:
    """Return the Dice of the cases in which both masks have structures: of all together if a case scores poorly."""
    return {
        case_id: float(np.nanmean(case.scores["dice"])) if case.fit is None else case.fit.dice
        for case_id, case in scored.items()
        if truth[case_id].pixels and case.mask is not None and case.mask.pixels
    }


def _pair_notes(
    cohort: Cohort, scored: Mapping[str, Scored], other_spacing: set[str], of: str, reading: Reading
) -> list[str]:
    """Return notes on headers and pixels of predictions by comparison with their reference masks."""
    is_copy = [case.is_copy for case in scored.values()]
    warning, question = "", "is it a copy?"
    if all(is_copy):
        warning = "WARNING: "
        question = "a model that is audited against its own masks is equally good for all groups"
    is_open = [
        case.relation == orientation.OPEN and reading.orientation == mismatch.NONE for case in scored.values()
    ]
    cases_of = {
        f"the headers of reference mask and prediction{of} state different spacings in {{}}; the audit uses the "
        "table's spacing, or else the reference's": cohort.frame["case_id"].isin(other_spacing).to_numpy(),
        f"only one of the headers of reference mask and prediction{of} states an orientation in {{}}; the audit "
        "assumes that the other mask lies as this one is displayed (give --orientation stored if it lies as this one "
        "is stored)": np.array(is_open),
        f"{warning}the prediction{of} equals the reference mask pixel by pixel in {{}}; {question}": np.array(
            is_copy
        ),
    }
    return [
        text.format(build.count_cases(cohort.frame, rows)) for text, rows in cases_of.items() if rows.any()
    ]


def _annotation_note(cohort: Cohort, scored: Mapping[str, Scored], of: str, reading: Reading) -> str:
    """Return a note on the structures that many reference masks lack although the prediction has them, or ""."""
    false_only = np.stack([case.false_only for case in scored.values()])
    counts = {
        name: int(rows.sum())
        for name, rows in zip(reading.scored, false_only.T, strict=True)
        if rows.sum() >= _UNANNOTATED_CASES and rows.mean() >= _UNANNOTATED_SHARE
    }
    if not counts:
        return ""
    is_whole_femur = "patella" in counts and _femur_covers_patella(scored, reading)
    remedies = []
    if is_whole_femur:
        remedies.append(
            "The reference femur covers the place of the predicted patella, so it may be the whole femur: then score "
            "it as such, with label maps in which 'whole femur' has the values of femur and patella "
            "(docs/input_files.md)."
        )
    if counts.keys() - ({"patella"} if is_whole_femur else set()):
        remedies.append(
            "If they were not annotated, add a column to the table with the structures that were ('femur;tibia'; empty "
            "where all were), and name it with --annotated."
        )
    return (
        f"WARNING: many reference masks lack structures that the prediction{of} has: "
        f"{', '.join(f'{name} in {count} of {len(cohort.frame)} cases' for name, count in counts.items())}; there "
        f"their Dice is 0. {' '.join(remedies)}"
    )


def _femur_covers_patella(scored: Mapping[str, Scored], reading: Reading) -> bool:
    """Return whether the reference femur covers most of the predicted patella, in the cases with a confusion matrix."""
    if not {"femur", "patella"} <= set(reading.structures):
        return False
    femur, patella = (1 + reading.structures.index(name) for name in ("femur", "patella"))
    columns = [case.confusion[:, patella] for case in scored.values() if case.confusion is not None]
    counts = np.sum(columns, axis=0)
    return bool(columns) and bool(counts[femur] > _COVERED_SHARE * counts.sum())


def _unit_faults(truth: Mapping[str, Summary], spacing: np.ndarray) -> list[FaultyMask]:
    """Return the cases whose pixels and bones are both far larger, or both far smaller, than those of most cases.

    Args:
        truth: case id -> reference mask.
        spacing: f[N, 2], mm per pixel as used; NaN if unknown.
    """
    pixels = np.array([mask.pixels for mask in truth.values()])
    pixel_mm2 = spacing.astype(float).prod(1)
    has_area = np.isfinite(pixel_mm2) & (pixels > 0)
    if not has_area.any():
        return []
    area = pixels * pixel_mm2
    sides = np.sqrt(pixel_mm2) / np.median(np.sqrt(pixel_mm2[has_area]))
    areas = area / np.median(area[has_area])
    faults = []
    for case, stated, side, size in zip(truth, spacing, sides, areas, strict=True):
        is_larger = side >= _SPACING_RATIO and size >= _AREA_RATIO
        if is_larger or (0 < side <= 1 / _SPACING_RATIO and 0 < size <= 1 / _AREA_RATIO):
            detail = f"{_spacing_text(stated)}, {side:.3g} times the median, areas {size:.3g} times"
            faults.append(FaultyMask(case, REFERENCE, Fault(UNITS, detail)))
    return faults


def _spacing_faults(
    spacings: Iterable[tuple[str, np.ndarray, np.ndarray]], mask: str, kind: str
) -> list[FaultyMask]:
    """Return the masks of cases with two spacings, f[2] each, that are known and differ."""
    return [
        FaultyMask(case, mask, Fault(kind, f"{_spacing_text(first)} and {_spacing_text(second)}"))
        for case, first, second in spacings
        if np.isfinite([first, second]).all() and not limits.same_spacing(first, second)
    ]


def _spacing_kind_notes(masks: Mapping[str, Summary], name: str) -> list[str]:
    """Return a note on the kinds of spacing that headers state, if masks differ in them.

    Args:
        masks: case id -> mask.
        name: of such masks, for the note.
    """
    cases_of: dict[str, list[str]] = {}
    for case, mask in masks.items():
        if np.isfinite(mask.spacing).all():
            cases_of.setdefault(mask.spacing_kind, []).append(case)
    if len(cases_of) < 2:
        return []
    counts = ", ".join(
        f"{kind} in {len(cases)} ({formatting.examples(cases)})" for kind, cases in cases_of.items()
    )
    return [
        f"the headers of the {name} state spacings of different kinds, which differ in magnification: {counts}"
    ]


def _pair_spacing_kind_notes(
    truth: Mapping[str, Summary], predictions: Mapping[str, Summary | None], of: str
) -> list[str]:
    """Return a note on the cases whose reference mask and prediction state spacings of different kinds."""
    pairs = {
        case: (true.spacing_kind, one.spacing_kind)
        for (case, true), one in zip(truth.items(), predictions.values(), strict=True)
        if one is not None
        and np.isfinite(np.stack([true.spacing, one.spacing])).all()
        and true.spacing_kind != one.spacing_kind
    }
    if not pairs:
        return []
    examples = [f"{case}: {first} and {second}" for case, (first, second) in pairs.items()]
    return [
        f"the headers of reference mask and prediction{of} state spacings of different kinds in {len(pairs)} of "
        f"{len(truth)} cases ({formatting.examples(examples)})"
    ]


def _spacing_text(spacing: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{float(value):.4g}" for value in spacing) + " mm"
