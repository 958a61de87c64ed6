"""Faults of masks that their own pixels show, by case: a table of them, and what is said of it among the notes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.label_map import BACKGROUND, Checked, structure_names
from kneefair_jax.data import mask_checks

COLUMNS = ("case_id", "mask", "fault")
INTERPOLATED = "interpolated labels"
BAND = "void band as background"
_SHOWN = 5


def of_mask(values: np.ndarray, labels: Checked) -> list[str]:
    """The faults of one mask.

    Args:
        values: integers [H, W], as the file holds them.
        labels: the label map of such masks.
    """
    structures = [value for name in structure_names(labels) for value in labels[name]]
    bands = mask_checks.contour_bands(values, structures, labels[BACKGROUND])
    interpolated = mask_checks.interpolated_rims(values).interpolated
    return [INTERPOLATED] * interpolated + [f"{BAND}: {value}" for value in bands]


def table(cohort: Cohort, faults: Mapping[str, Iterable[Sequence[str]]]) -> pd.DataFrame:
    """A row per case, mask and fault: `case_id`, `mask`, `fault`.

    Args:
        cohort: the cases.
        faults: `reference` or a model -> the faults of each case's mask, in the cohort's order.
    """
    rows: list[dict[str, Any]] = [
        dict(zip(COLUMNS, (case, mask, fault), strict=True))
        for mask, by_case in faults.items()
        for case, several in zip(cohort.frame["case_id"], by_case, strict=True)
        for fault in several
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def notes(faults: pd.DataFrame, cases: int) -> list[str]:
    """What is said of `table`, with the remedy; `cases` is how many there are."""
    result = []
    for (mask, fault), some in faults.groupby(["mask", "fault"], sort=False):
        which = "reference masks" if mask == "reference" else f"predictions by {mask}".removesuffix(" by ")
        ids = ", ".join(some["case_id"].iloc[:_SHOWN]) + (", ..." if len(some) > _SHOWN else "")
        where = f"in {len(some)} of {cases} cases ({ids}; all in mask_faults.csv)"
        if fault == INTERPOLATED:
            result.append(
                f"WARNING: {which} have interpolated labels {where}: where two structures meet, a thin rim has the "
                f"label of a third; {mask_checks.EXPORT_LABELS}"
            )
        else:
            value = fault.rpartition(": ")[2]
            result.append(
                f"WARNING: {which} have a thin band of the value {value}, which counts as background, along the "
                f"contours {where}; if nobody labeled these pixels, leave them out of the scores with "
                f"ignore={value} in --labels"
            )
    return result
