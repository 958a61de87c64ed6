"""What is odd about the masks of an audit, though they can be scored: notes, and the faults of single masks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.audit import case_mismatch, mask_alignment, spacing_faults
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.mask_alignment import Fit
from kneefair_jax.audit.mask_faults import (
    BAND,
    HEADER,
    INTERPOLATED,
    ORIENTATION,
    OTHER_CASE,
    OUTLIER,
    REFERENCE,
    SAME_PIXELS,
    Fault,
    FaultyMask,
)
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.audit.mask_summary import Summary
from kneefair_jax.audit.scoring import Case, Scored
from kneefair_jax.data import inspection, layouts
from kneefair_jax.data.readers import ORIENTATIONS, name_of
from kneefair_jax.report import notes as report_notes

# Faults that explain why a prediction overlaps its reference mask less than others do.
_LOWER_OVERLAP = (INTERPOLATED, BAND, ORIENTATION, OTHER_CASE, SAME_PIXELS)


class Observations(NamedTuple):
    """What is odd.

    Attributes:
        notes: for the page.
        faults: of single masks.
    """

    notes: list[str]
    faults: list[FaultyMask]


def of_references(cohort: Cohort, cases: Sequence[Case]) -> Observations:
    """Of the reference masks."""
    ids = cohort.frame["case_id"].tolist()
    truth = {case: one.truth for case, one in zip(ids, cases, strict=True)}
    spacing = np.stack([one.spacing for one in cases])
    faults = [
        *_own_faults(truth, REFERENCE),
        *case_mismatch.copies(truth, REFERENCE),
        *spacing_faults.units(truth, spacing),
        *spacing_faults.against_table(truth, cohort.spacing),
    ]
    notes = [*_header_notes(truth, "reference mask"), *spacing_faults.kinds(truth, "reference masks")]
    return Observations(notes, faults)


def of_model(
    cohort: Cohort,
    cases: Sequence[Case],
    model: str,
    table: pd.DataFrame,
    reading: Reading,
    of_truth: Sequence[FaultyMask],
) -> Observations:
    """Of the predictions of a model, and of how they lie on the reference masks.

    Args:
        cohort: the cases.
        cases: their results.
        model: its name.
        table: its long per-case table.
        reading: of the masks.
        of_truth: the faults of `of_references`.
    """
    of = f" by {model}" if model else ""
    ids = cohort.frame["case_id"].tolist()
    truth = {case: one.truth for case, one in zip(ids, cases, strict=True)}
    scored = {case: one.by_model[model] for case, one in zip(ids, cases, strict=True)}
    masks = {case: one.mask for case, one in scored.items()}
    present = {case: mask for case, mask in masks.items() if mask is not None}
    fits = {case: scored[case].fit for case in present}
    confusions = {case: one.confusion for case, one in scored.items() if one.confusion is not None}
    other_labels = mask_alignment.exchanged_labels(
        fits, confusions, reading.structures, float(table["dice"].mean()), of
    )
    overlaps = _overlaps(truth, scored)
    between_headers = spacing_faults.against_reference(truth, masks, model)
    of_others = [
        *case_mismatch.copies(present, model),
        *case_mismatch.copies_of_references(truth, masks, model),
        *case_mismatch.exchanged(truth, masks, fits, model),
    ]
    # A mask of another case may fit a little better when it is turned, too; not most masks of a cohort.
    elsewhere = {
        one.case_id for one in [*of_truth, *of_others] if one.fault.kind in (SAME_PIXELS, OTHER_CASE)
    }
    turned = {} if other_labels else mask_alignment.turned(fits, overlaps)
    if 2 * len(turned) <= len(fits):
        turned = {case: one for case, one in turned.items() if case not in elsewhere}
    orientations = _turned(turned, fits, truth, present, model)
    faults = [*_own_faults(present, model), *orientations, *of_others, *between_headers]
    explained = {one.case_id for one in [*faults, *of_truth] if one.fault.kind in _LOWER_OVERLAP}
    faults += case_mismatch.outliers(overlaps, explained, model)
    flag_note = ""
    if not any(one.mask == REFERENCE for one in orientations):
        flag_note = mask_alignment.flag_note(turned, len(fits), of, reading.orientation)
    notes = [
        *_header_notes(masks, f"prediction{of}"),
        *report_notes.observations(
            cohort.frame,
            cohort.attributes,
            of=of,
            true_pixels=np.array([one.pixels for one in truth.values()]),
            pred_pixels=np.array([0 if mask is None else mask.pixels for mask in masks.values()]),
            spacing=np.stack([one.spacing for one in cases]),
        ),
        *spacing_faults.kinds(present, f"predictions{of}"),
        *spacing_faults.pair_kinds(truth, masks, of),
        *_pair_notes(cohort, list(scored.values()), {one.case_id for one in between_headers}, of, reading),
        *filter(None, (other_labels, flag_note)),
    ]
    return Observations(notes, faults)


def combined(faults: Sequence[FaultyMask]) -> list[FaultyMask]:
    """Return the faults of the masks of all models, each once.

    A turned reference mask is named once, whatever its Dice with each model; and where the masks of one model show
    what is wrong with a reference mask, a low overlap with another model's is explained.
    """
    explained = {one.case_id for one in faults if one.mask == REFERENCE and one.fault.kind in _LOWER_OVERLAP}
    unique: dict[tuple[str, ...], FaultyMask] = {}
    for one in faults:
        detail = "" if one.fault.kind == ORIENTATION else one.fault.detail
        if one.fault.kind != OUTLIER or one.case_id not in explained:
            unique.setdefault((one.case_id, one.mask, one.fault.kind, detail), one)
    return list(unique.values())


def _turned(
    turned: Mapping[str, Fit],
    fits: Mapping[str, Fit | None],
    truth: dict[str, Summary],
    masks: dict[str, Summary],
    model: str,
) -> list[FaultyMask]:
    """The masks that lie differently: of prediction and reference the one that lies unlike most masks.

    Most masks are those of the cases that score well. Where none does, or both lie like them, predictions are named.
    """
    if not turned:
        return []
    good = [masks[case].thumbnail for case, one in fits.items() if one is None]
    usual = mask_alignment.frequencies(good) if good else None
    faults = []
    for case, one in turned.items():
        remedy, mask = ORIENTATIONS[one.orientation], model
        predicted = masks[case].thumbnail
        if usual is not None and mask_alignment.reference_is_turned(
            predicted, remedy.apply(predicted), usual
        ):
            remedy, mask = remedy.inverse(), REFERENCE
        detail = f"fits after {name_of(remedy)} (Dice {one.best:.2f}, not {one.dice:.2f})"
        faults.append(FaultyMask(case, mask, Fault(ORIENTATION, detail)))
    return faults


def _own_faults(masks: dict[str, Summary], name: str) -> Iterator[FaultyMask]:
    """What each mask and its header show by themselves."""
    for case, mask in masks.items():
        yield from (FaultyMask(case, name, fault) for fault in mask.faults)
    for case, mask in masks.items():
        yield from (FaultyMask(case, name, Fault(HEADER, note)) for note in mask.notes)


def _header_notes(masks: dict[str, Summary] | dict[str, Summary | None], name: str) -> list[str]:
    notes = [() if mask is None else mask.notes for mask in masks.values()]
    return [f"{name}: {text}" for text in inspection.aggregate_notes(list(masks), notes)]


def _overlaps(truth: dict[str, Summary], scored: dict[str, Scored]) -> dict[str, float]:
    """Dice of the cases in which both masks have structures: of all together where a case scores poorly."""
    return {
        case: float(np.nanmean(one.scores["dice"])) if one.fit is None else one.fit.dice
        for case, one in scored.items()
        if truth[case].pixels and one.mask is not None and one.mask.pixels
    }


def _pair_notes(
    cohort: Cohort, scored: Sequence[Scored], other_spacing: set[str], of: str, reading: Reading
) -> list[str]:
    """How the headers and pixels of a prediction go with those of its reference mask."""
    same = [one.same for one in scored]
    warning, copy = "", "is it a copy?"
    if all(same):
        warning, copy = (
            "WARNING: ",
            "a model that is audited against its own masks is equally good for all groups",
        )
    chosen = {
        f"the headers of reference mask and prediction{of} state different spacings in {{}}; the table's, or else the "
        "reference's, was taken": cohort.frame["case_id"].isin(other_spacing).to_numpy(),
        f"only one of the headers of reference mask and prediction{of} states an orientation in {{}}; the other was "
        "taken to lie as this one is displayed (give --orientation stored if it lies as this one is stored)": np.array(
            [one.relation == layouts.OPEN and reading.orientation == mask_alignment.NONE for one in scored]
        ),
        f"{warning}the prediction{of} equals the reference mask pixel by pixel in {{}}; {copy}": np.array(
            same
        ),
    }
    return [
        text.format(report_notes.count_cases(cohort.frame, some))
        for text, some in chosen.items()
        if some.any()
    ]
