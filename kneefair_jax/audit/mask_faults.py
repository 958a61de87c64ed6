"""Faulty masks by case: a table of them, and what is said of it among the notes and at the end of the terminal."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.audit.label_map import BACKGROUND, Checked, structure_names
from kneefair_jax.data import mask_checks
from kneefair_jax.report.text import formatting

FILE = "mask_faults.csv"
COLUMNS = ("case_id", "mask", "fault", "detail")  # as in the table of `check`
REFERENCE = "reference"  # in the column `mask`, beside the names of models
_SHOWN = 5
_IGNORED = np.int32(2**24)  # above every label

# Kinds of faults, and what a note says of masks that have one; the notes on other kinds are written elsewhere.
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
_NOTES = {
    ORIENTATION: "fit their counterparts better in another orientation {where}; correct these files or their headers "
    "before you believe any number",
    INTERPOLATED: "have interpolated labels {where}: where two structures meet, a thin rim has the label of a third; "
    f"{mask_checks.EXPORT_LABELS}",
    BAND: "have a thin band of the value {detail}, which counts as background, along the contours {where}; if nobody "
    "labeled these pixels, leave them out of the scores with ignore={detail} in --labels",
    SAME_PIXELS: "are identical to the mask of another case {where}; replace the copies with the masks of these cases",
    OTHER_CASE: "fit the mask of another case better than that of their own {where}; correct the names of these files",
    OUTLIER: "overlap their counterpart far less than in most cases {where}; look whether both are of the same film",
    UNITS: "have a pixel spacing in which bones are of another size than in most cases {where}; correct its unit in "
    "the header or the table",
    TABLE_SPACING: "have headers that state another spacing than the table {where}; the table's was taken: correct the "
    "wrong one",
}


class Fault(NamedTuple):
    """A fault of a mask: its kind, and what is particular to the mask."""

    kind: str
    detail: str = ""


class FaultyMask(NamedTuple):
    """A fault with the case and the mask, `reference` or the name of a model."""

    case_id: str
    mask: str
    fault: Fault


def of_mask(values: np.ndarray, labels: Checked, ignored: np.ndarray) -> list[Fault]:
    """The faults that the pixels of one mask show by themselves.

    Args:
        values: integers [H, W], as the file holds them.
        labels: the label map of such masks.
        ignored: bool[H, W], the pixels that are left out of every score, whatever they hold.
    """
    structures = [value for name in structure_names(labels) for value in labels[name]]
    bands = mask_checks.contour_bands(np.where(ignored, 0, values), structures, labels[BACKGROUND])
    # A label above all others. Background in its place would cut thin strips off structures, which look like rims: 9
    # false alarms on 40 phantoms whose lower half is ignored, not 0.
    rims = np.where(ignored, _IGNORED, values) if ignored.any() else values
    interpolated = mask_checks.interpolated_rims(rims).interpolated
    return [Fault(INTERPOLATED)] * interpolated + [Fault(BAND, str(value)) for value in bands]


def table(faults: Iterable[FaultyMask]) -> pd.DataFrame:
    """Return `COLUMNS`, a row per case, mask and fault."""
    rows = [(one.case_id, one.mask, *one.fault) for one in faults]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def notes(faults: Sequence[FaultyMask], cases: int) -> list[str]:
    """A warning for each mask and kind of fault, with the remedy.

    Args:
        faults: of all masks.
        cases: how many cases there are.
    """
    groups: dict[tuple[str, ...], list[FaultyMask]] = {}
    for one in faults:
        if one.fault.kind in _NOTES:
            value = one.fault.detail if one.fault.kind == BAND else ""
            groups.setdefault((one.mask, one.fault.kind, value), []).append(one)
    lines = []
    for (mask, kind, value), some in groups.items():
        of = "reference masks" if mask == REFERENCE else f"predictions by {mask}".removesuffix(" by ")
        # Words of a file are inserted last, since they may hold braces.
        where = f"in {len(some)} of {cases} cases ({_listed(some)}; all in {FILE})"
        text = _NOTES[kind].replace("{detail}", value).replace("{where}", where)
        lines.append(f"WARNING: {of} {text}")
    return lines


def closing_lines(faults: pd.DataFrame) -> list[str]:
    """What the terminal says last: a line for each mask and kind of fault, which begins with the cases.

    Args:
        faults: of `table`.
    """
    lines = []
    for (mask, kind), some in faults.groupby(["mask", "fault"], sort=False):
        cases = list(dict.fromkeys(some["case_id"]))
        noun = "reference mask" if mask == REFERENCE else "prediction"
        of = "" if mask in (REFERENCE, "") else f" by {mask}"
        lines.append(f"look at {formatting.amount(len(cases), noun)}{of} ({_ids(cases)}): {kind}")
    return lines


def _listed(faults: Sequence[FaultyMask]) -> str:
    """The first cases, with the details that notes do not have elsewhere."""
    return _ids(
        [
            f"{one.case_id}: {one.fault.detail}"
            if one.fault.detail and one.fault.kind != BAND
            else one.case_id
            for one in faults
        ]
    )


def _ids(texts: Sequence[str]) -> str:
    between = "; " if any(": " in text for text in texts) else ", "
    return between.join(texts[:_SHOWN]) + (f"{between}..." if len(texts) > _SHOWN else "")
