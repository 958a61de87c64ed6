"""Per-case tables of many runs -> arrays of patients' scores, for `comparison.compare`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.errors import InputError


class Runs(NamedTuple):
    """One score of the same P patients in every run.

    Attributes:
        scores: method -> f64[S, P], NaN where undefined.
        index: i32[P], the patients' groups, -1 where the attribute is missing.
        names: the groups' names.
    """

    scores: dict[str, np.ndarray]
    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index
    names: tuple[str, ...]


def stacked(
    tables: Mapping[str, Sequence[pd.DataFrame]], attributes: Sequence[str], score: str = "dice"
) -> Runs:
    """Means over a patient's cases of a case's mean over structures, run by run.

    Args:
        tables: method -> its S long per-case tables, one a seed and in the same order of seeds, each of one split
            and one model: `case_id, patient_id, structure, <attributes>, <score>`.
        attributes: the columns that define the groups: one, or several for their intersection. A patient's are those
            of the first case by name.
        score: the column.

    Raises:
        InputError: two runs do not hold the same cases of the same patients, or methods differ in seeds.
    """
    first_method, first = next((name, runs[0]) for name, runs in tables.items())
    cases = first.sort_values("case_id").drop_duplicates("case_id").set_index("case_id")
    patients = cases.groupby("patient_id", sort=True).first()
    seeds = len(tables[first_method])
    scores = {}
    for method, runs in tables.items():
        if len(runs) != seeds:
            raise InputError(
                f"{method} has {len(runs)} seeds and {first_method} {seeds}; finish the runs of both"
            )
        rows = []
        for seed, table in enumerate(runs):
            of_case = table.groupby("case_id").agg({"patient_id": "first", score: "mean"})
            if not of_case["patient_id"].equals(cases["patient_id"].sort_index()):
                raise InputError(
                    f"run {seed + 1} of {method} was not tested on the cases of run 1 of {first_method}; "
                    "prepare the cohort once and run both on it"
                )
            rows.append(of_case.groupby("patient_id")[score].mean().reindex(patients.index).to_numpy(float))
        scores[method] = np.stack(rows)
    part = groups.partition(patients, attributes)
    return Runs(scores, part.index, part.names)
