"""Explain a gap in the test cases by the size of structures, and measure calibration by group."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from kneefair_jax import anatomy, metrics
from kneefair_jax.data.case_arrays import Arrays
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import reference_ser
from kneefair_jax.fairness.group_calibration import Sums, calibration
from kneefair_jax.fairness.patient_table import FAILURE_DICE
from kneefair_jax.report.schema import Calibration
from kneefair_jax.report.score_schema import Scores
from kneefair_jax.runtime import atomic, checked_files

RELIABILITY = "calibration.npz"
_FIELDS = (*Sums._fields, "spacing", "true_pixels", "pred_pixels")


def explain(
    scores: dict[str, Scores],
    cohort: Cohort,
    cases: Arrays | None,
    test: pd.DataFrame,
    rows: np.ndarray,
    case_values: dict[str, np.ndarray],
    intersections: bool = True,
    failure_dice: float = FAILURE_DICE,
) -> Calibration:
    """Return the `calibration` of `report.json`, and write the SER that size alone gives into `scores`.

    Args:
        scores: the report's scores; changed in place.
        cohort: the cohort.
        cases: its prepared cases, where scores are taken on the working grid; None at native resolution.
        test: the long per-case table of some cases by one model.
        rows: their rows in the cohort's table.
        case_values: the result of `read` for these cases.
        intersections: whether the report has pairs of attributes.
        failure_dice: Dice below which a segmentation counts as failed.
    """
    tested = cohort.cases.iloc[rows]
    errors = _boundary_errors(cohort, cases, test, rows, case_values["spacing"])
    reference_ser.add_expected_ser(
        scores, errors, test, tested, cohort.attributes, intersections, failure_dice
    )
    sums = Sums(*(case_values[name] for name in Sums._fields))
    return cast(Calibration, calibration(sums, tested, cohort.attributes, intersections))


def _boundary_errors(
    cohort: Cohort, cases: Arrays | None, test: pd.DataFrame, rows: np.ndarray, spacing: np.ndarray
) -> dict[str, np.ndarray]:
    """Return `metrics.boundary_errors` of each row, at the resolution at which its distances were taken."""
    offset = reference_ser.boundary_offset_mm(test, spacing)
    layers = anatomy.layers(cohort.structures, anatomy.scored_structures(cohort.structures))

    def case_errors(label: np.ndarray, spacing: np.ndarray) -> dict[str, np.ndarray]:
        truth = anatomy.clear_void(label)
        return metrics.score_by_layer(
            metrics.boundary_errors, layers, truth, spacing=spacing, distance_mm=offset
        )

    if cases is None:
        errors = cohort.map_native(lambda _, case: case_errors(case.label, case.spacing), np.asarray(rows))
    else:
        with ThreadPoolExecutor() as pool:
            errors = list(pool.map(case_errors, [cases[row]["label"] for row in rows], spacing))
    return {name: np.stack([error[name] for error in errors]) for name in errors[0]}


def write(workdir: Path, case_id: np.ndarray, values: dict[str, np.ndarray]) -> None:
    """Write the values of N cases that the per-case table does not have, for `read`.

    Args:
        workdir: the run directory.
        case_id: str[N].
        values: the reliability sums (`Sums`, f32[N, S, bins] each), `spacing` (f[N, 2], mm), `true_pixels` and
            `pred_pixels` (i[N, S]).
    """
    case_values = {name: values[name] for name in _FIELDS}
    with atomic.replacement(workdir / RELIABILITY) as path:
        np.savez_compressed(path, allow_pickle=False, case_id=case_id.astype(str), **case_values)


def read(case_id: Sequence[str], *workdirs: Path) -> dict[str, np.ndarray]:
    """Read the values that `write` wrote for these cases into one or several run directories, in the given order."""
    parts = []
    for workdir in workdirs:
        parts.append(checked_files.read_npz(workdir / RELIABILITY, "evaluate it again: --mode=evaluate"))
        if not {*_FIELDS} <= set(parts[-1]):
            raise InputError(
                f"{workdir} was evaluated by an earlier version; evaluate it again: --mode=evaluate"
            )
    rows = pd.Index(np.concatenate([part["case_id"] for part in parts])).get_indexer(case_id)
    return {name: np.concatenate([part[name] for part in parts])[rows] for name in _FIELDS}
