"""What may explain a gap in the test cases: size, confounders, calibration. The parts of a report that say so."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import metrics
from kneefair_jax.data.load import Cohort
from kneefair_jax.data.memory import Arrays
from kneefair_jax.fairness import mixed_model, size_expected
from kneefair_jax.fairness.reliability import Sums, calibration

RELIABILITY = "calibration.npz"


def explain(
    scores: dict[str, Any],
    cohort: Cohort,
    cases: Arrays | None,
    test: pd.DataFrame,
    sums: dict[str, np.ndarray],
) -> dict[str, Any]:
    """`model` and `calibration` of `report.json`; the size-expected SER is written into `scores`.

    Args:
        scores: of the report; changed in place.
        cohort: the cohort.
        cases: its prepared cases, where they are scored on the working grid; None where at the masks' own size.
        test: the long per-case table of its test cases by one model.
        sums: what `read` gives.
    """
    row_of = {case_id: row for row, case_id in enumerate(cohort.cases["case_id"])}
    rows = [row_of[case_id] for case_id in test["case_id"].unique()]
    about = cohort.cases.iloc[rows]
    place = {case_id: k for k, case_id in enumerate(sums["case_id"])}
    places = [place[case_id] for case_id in about["case_id"]]
    by_size = _by_size(cohort, cases, test, rows, sums["spacing"][places])
    size_expected.add(scores, by_size, about, cohort.attributes)
    return {
        "model": mixed_model.models(test, about, cohort.attributes),
        "calibration": calibration(
            Sums(*(sums[name][places] for name in Sums._fields)), about, cohort.attributes
        ),
    }


def _by_size(
    cohort: Cohort, cases: Arrays | None, test: pd.DataFrame, rows: Sequence[int], spacing: np.ndarray
) -> dict[str, np.ndarray]:
    """`metrics.boundary_errors` of each row, of the masks and pixels that its distances were taken between."""
    apart = size_expected.apart(test, spacing)

    def of(label: np.ndarray, spacing: np.ndarray) -> dict[str, np.ndarray]:
        return metrics.boundary_errors(label, len(cohort.structures), spacing, apart)

    if cases is None:
        errors = cohort.over_whole(lambda _, case: of(case.label, case.spacing), np.asarray(rows))
    else:
        with ThreadPoolExecutor() as pool:
            errors = list(pool.map(of, [cases[row]["label"] for row in rows], spacing))
    return {name: np.stack([error[name] for error in errors]) for name in errors[0]}


def write(workdir: Path, case_id: np.ndarray, values: dict[str, np.ndarray]) -> None:
    """Keeps `case_id`, the sums of these cases' reliability, f32[N, S, bins] each, and `spacing` f[N, 2] for `read`."""
    sums = {name: values[name] for name in (*Sums._fields, "spacing")}
    np.savez_compressed(workdir / RELIABILITY, allow_pickle=False, case_id=case_id.astype(str), **sums)


def read(*workdirs: Path) -> dict[str, np.ndarray]:
    """What `write` kept in one or several folders, one after another."""
    parts = []
    for workdir in workdirs:
        with np.load(workdir / RELIABILITY) as kept:
            parts.append(dict(kept))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
