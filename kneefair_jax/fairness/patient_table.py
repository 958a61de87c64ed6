"""The per-case table -> scores as columns, and their means by patient: what every statistic is made of."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

MACRO = "macro"

# What may be scored, in the order to report it, and those of them that are better when lower.
SCORES = ("dice", "iou", "hd95_mm", "assd_mm", "nsd", "ece")
LOWER_IS_BETTER = frozenset({"hd95_mm", "assd_mm", "ece"})


class Column(NamedTuple):
    """A score of one structure, or of `MACRO`: a case's mean over the structures it has."""

    score: str
    structure: str

    @property
    def lower_is_better(self) -> bool:
        """Whether the score is itself an error; of others the error is 1 - S."""
        return self.score in LOWER_IS_BETTER


class Table(NamedTuple):
    """Cases and their scores, sorted by case, so that the order of rows changes no resample.

    Attributes:
        rows: N rows by `case_id`, with `patient_id` and the attributes.
        columns: K of them.
        values: f64[N, K]; NaN where undefined.
    """

    rows: pd.DataFrame
    columns: tuple[Column, ...]
    values: np.ndarray

    @property
    def patients(self) -> np.ndarray:
        """The patient of each case, [N]."""
        return self.rows["patient_id"].to_numpy()


def table(cases: pd.DataFrame, structures: Sequence[str]) -> Table:
    """The scores of a long per-case table that are there and not all undefined; `dice` always."""
    rows = cases.drop_duplicates("case_id").set_index("case_id").sort_index()
    known = [score for score in SCORES if score in cases and (score == "dice" or cases[score].notna().any())]
    columns = tuple(Column(score, structure) for score in known for structure in (MACRO, *structures))
    return Table(rows, columns, np.stack([_column(cases, rows.index, *column) for column in columns], axis=1))


def by_patient(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """f[N, K] scores of cases -> f[P, K] means over each patient's cases, NaN left out."""
    return pd.DataFrame(values).groupby(patients, sort=True).mean().to_numpy(float)


def by_patient_and_group(
    values: np.ndarray, patients: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over the cases that a patient has in each group.

    A patient whose cases lie in several groups (visits either side of an age) is a row in each of them.

    Returns:
        f64[R, K], the R rows' patients, and their groups.
    """
    means = pd.DataFrame(values).groupby([patients, index], sort=True).mean()
    return means.to_numpy(float), *(means.index.get_level_values(level).to_numpy() for level in (0, 1))


def _column(cases: pd.DataFrame, index: pd.Index, score: str, structure: str) -> np.ndarray:
    if structure == MACRO:
        return cases.groupby("case_id")[score].mean().reindex(index).to_numpy(float)
    one = cases[cases["structure"] == structure]
    return one.set_index("case_id")[score].reindex(index).to_numpy(float)
