"""Faults of masks by case: their kinds, the table `mask_faults.csv`, and its notes."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.data import inspection
from kneefair_jax.data.label_map import BACKGROUND, LabelMap, structure_names
from kneefair_jax.report.text import formatting

FILE = "mask_faults.csv"
COLUMNS = ("case_id", "mask", "fault", "detail")  # as in the table of `check`
REFERENCE = "reference"  # in the column `mask`, beside the names of models
_MAX_LISTED = 5
_IGNORED = np.int32(2**24)  # above every label

# Kinds of faults, and the note on masks that have one; other modules write the notes on the other kinds.
INTERPOLATED = "interpolated labels"
BAND = "void band as background"
SAME_PIXELS = "identical mask"
OTHER_CASE = "fits another case"
OUTLIER = "overlaps far less than in most cases"
UNITS = "pixel spacing far from that of most cases"
TABLE_SPACING = "header and table state different spacings"
PAIR_SPACING = "headers of reference mask and prediction state different spacings"
ORIENTATION = "orientation"
HEADER = "header"
MISSING = "missing prediction, scored as an empty mask"
_NOTES = {
    ORIENTATION: "fit their counterparts better in another orientation {where}; correct these files or their headers "
    "before you believe any number",
    INTERPOLATED: "have interpolated labels {where}: where two structures meet, a thin rim has the label of a third; "
    f"{inspection.EXPORT_LABELS}",
    BAND: "have a thin band of the value {detail}, which counts as background, along the contours {where}; if these "
    "pixels have no label, exclude them from the scores with ignore={detail} in --labels",
    SAME_PIXELS: "are identical to the mask of another case {where}; replace the copies with the masks of these cases",
    OTHER_CASE: "fit the mask of another case better than that of their own {where}; correct the names of these files",
    OUTLIER: "overlap their counterpart far less than in most cases {where}; check whether both are of the same film",
    UNITS: "have a pixel spacing with which bones have another size than in most cases {where}; correct its unit in "
    "the header or the table",
    TABLE_SPACING: "have headers that state another spacing than the table {where}; the table's was used: correct the "
    "wrong one",
}
# What the mask does, for the line above the headline: in the singular, and in the plural.
_SHORT = {
    MISSING: ("is missing and scored as an empty mask", "are missing and scored as empty masks"),
    ORIENTATION: ("looks flipped or turned", "look flipped or turned"),
    INTERPOLATED: ("has interpolated labels", "have interpolated labels"),
    BAND: ("has a void band as background", "have a void band as background"),
    SAME_PIXELS: ("is identical to that of another case", "are identical to those of other cases"),
    OTHER_CASE: ("fits another case better", "fit another case better"),
    OUTLIER: ("overlaps far less than most", "overlap far less than most"),
    UNITS: ("has a pixel spacing far from most", "have a pixel spacing far from most"),
    TABLE_SPACING: ("states another spacing than the table", "state another spacing than the table"),
    PAIR_SPACING: ("states another spacing than the reference", "state another spacing than the reference"),
}
# These lower the scores of single cases, so that a few masks may decide a gap.
_DECISIVE = (MISSING, ORIENTATION, SAME_PIXELS, OTHER_CASE, OUTLIER)


class Fault(NamedTuple):
    """A fault of a mask: its kind, and details of the mask."""

    kind: str
    detail: str = ""


class FaultyMask(NamedTuple):
    """A fault with the case and the mask, `reference` or the name of a model."""

    case_id: str
    mask: str
    fault: Fault


def of_mask(values: np.ndarray, labels: LabelMap, ignored: np.ndarray) -> list[Fault]:
    """Return the faults that the pixels of one mask show by themselves.

    Args:
        values: integers [H, W], as in the file.
        labels: the label map of such masks.
        ignored: bool[H, W], the pixels that every score excludes.
    """
    structures = [value for name in structure_names(labels) for value in labels[name]]
    bands = inspection.contour_bands(np.where(ignored, 0, values), structures, labels[BACKGROUND])
    # Ignored pixels get a label above all others. With background in its place, thin strips cut off structures would
    # look like rims: 9 false alarms on 40 phantoms whose lower half is ignored, not 0.
    rims = np.where(ignored, _IGNORED, values) if ignored.any() else values
    interpolated = inspection.interpolated_rims(rims).interpolated
    return [Fault(INTERPOLATED)] * interpolated + [Fault(BAND, str(value)) for value in bands]


def table(faults: Iterable[FaultyMask]) -> pd.DataFrame:
    """Return `COLUMNS`, a row per case, mask and fault."""
    rows = [(faulty.case_id, faulty.mask, *faulty.fault) for faulty in faults]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def notes(faults: Sequence[FaultyMask], cases: int) -> list[str]:
    """Return a warning for each model (or the reference masks) and kind of fault, with the remedy.

    Args:
        faults: of all masks.
        cases: number of all cases.
    """
    groups: dict[tuple[str, ...], list[FaultyMask]] = {}
    for faulty in faults:
        if faulty.fault.kind in _NOTES:
            value = faulty.fault.detail if faulty.fault.kind == BAND else ""
            groups.setdefault((faulty.mask, faulty.fault.kind, value), []).append(faulty)
    lines = []
    for (mask, kind, value), group in groups.items():
        of = "reference masks" if mask == REFERENCE else f"predictions by {mask}".removesuffix(" by ")
        # Text of a file is inserted last, since they may hold braces.
        affected = len({faulty.case_id for faulty in group})
        where = f"in {affected} of {cases} cases ({_first_cases(group)}; all in {FILE})"
        text = _NOTES[kind].replace("{detail}", value).replace("{where}", where)
        lines.append(f"WARNING: {of} {text}")
    return lines


def short_warnings(faults: Sequence[FaultyMask]) -> list[str]:
    """Return a short sentence for each model (or the reference masks) and kind of fault, and one on their effect.

    >>> short_warnings([FaultyMask("c1", "a", Fault(ORIENTATION)), FaultyMask("c2", "a", Fault(ORIENTATION))])[0]
    '2 predictions by a look flipped or turned: c1, c2.'
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for faulty in faults:
        if faulty.fault.kind in _SHORT:
            groups.setdefault((faulty.mask, faulty.fault.kind), []).append(faulty.case_id)
    lines = []
    for (mask, kind), ids in groups.items():
        cases = list(dict.fromkeys(ids))
        noun = "reference mask" if mask == REFERENCE else "prediction"
        of = "" if mask in (REFERENCE, "") else f" by {mask}"
        text = _SHORT[kind][len(cases) > 1]
        lines.append(f"{formatting.amount(len(cases), noun)}{of} {text}: {_ids(cases)}.")
    if decisive := dict.fromkeys(mask for mask, kind in groups if kind in _DECISIVE):
        of = "" if decisive.keys() & {REFERENCE, ""} else f" of {formatting.listing(decisive)}"
        lines.append(f"The gaps{of} may come from these masks, which {FILE} lists.")
    return lines


def _first_cases(faults: Sequence[FaultyMask]) -> str:
    """Return the first cases, with the details that notes do not state elsewhere."""
    return _ids(
        [
            f"{faulty.case_id}: {faulty.fault.detail}"
            if faulty.fault.detail and faulty.fault.kind != BAND
            else faulty.case_id
            for faulty in faults
        ]
    )


def _ids(texts: Sequence[str]) -> str:
    separator = "; " if any(": " in text for text in texts) else ", "
    return separator.join(texts[:_MAX_LISTED]) + (f"{separator}..." if len(texts) > _MAX_LISTED else "")
