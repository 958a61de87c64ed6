"""What may explain a gap in the test cases: size, calibration. The parts of a report that say so."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import anatomy, metrics
from kneefair_jax.data.case_arrays import Arrays
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import reference_ser
from kneefair_jax.fairness.group_calibration import Sums, calibration
from kneefair_jax.fairness.patient_table import FAILURE_DICE
from kneefair_jax.runtime import array_files, atomic

RELIABILITY = "calibration.npz"
KEPT = ("spacing", "true_pixels", "pred_pixels")


def explain(
    scores: dict[str, Any],
    cohort: Cohort,
    cases: Arrays | None,
    test: pd.DataFrame,
    rows: np.ndarray,
    kept: dict[str, np.ndarray],
    intersections: bool = True,
    failure_dice: float = FAILURE_DICE,
) -> dict[str, Any]:
    """`calibration` of `report.json`; the size-expected SER, and the observed one beside it, are written into `scores`.

    Args:
        scores: of the report; changed in place.
        cohort: the cohort.
        cases: its prepared cases, where they are scored on the working grid; None where at the masks' own size.
        test: the long per-case table of some cases by one model.
        rows: theirs in the cohort's table.
        kept: what `read` gives of them.
        intersections: whether the report shows pairs of attributes.
        failure_dice: Dice below which a segmentation counts as failed.
    """
    about = cohort.cases.iloc[rows]
    by_size = _by_size(cohort, cases, test, rows, kept["spacing"])
    reference_ser.add(scores, by_size, test, about, cohort.attributes, intersections, failure_dice)
    sums = Sums(*(kept[name] for name in Sums._fields))
    return calibration(sums, about, cohort.attributes, intersections)


def _by_size(
    cohort: Cohort, cases: Arrays | None, test: pd.DataFrame, rows: np.ndarray, spacing: np.ndarray
) -> dict[str, np.ndarray]:
    """`metrics.boundary_errors` of each row, of the masks and pixels that its distances were taken between."""
    apart = reference_ser.apart(test, spacing)
    names = anatomy.scored(cohort.structures)
    layers = anatomy.layers(cohort.structures, names)

    def of(label: np.ndarray, spacing: np.ndarray) -> dict[str, np.ndarray]:
        def score(truth: np.ndarray) -> dict[str, np.ndarray]:
            return metrics.boundary_errors(truth, len(names), spacing, apart)

        return metrics.by_layer(score, layers, anatomy.clear_void(label))

    if cases is None:
        errors = cohort.map_native(lambda _, case: of(case.label, case.spacing), np.asarray(rows))
    else:
        with ThreadPoolExecutor() as pool:
            errors = list(pool.map(of, [cases[row]["label"] for row in rows], spacing))
    return {name: np.stack([error[name] for error in errors]) for name in errors[0]}


def write(workdir: Path, case_id: np.ndarray, values: dict[str, np.ndarray]) -> None:
    """Keeps of N cases what the per-case table has not, for `read`: `KEPT` and the sums of reliability.

    These are f32[N, S, bins] each, the spacing f[N, 2] and the pixels i[N, S].
    """
    kept = {name: values[name] for name in (*Sums._fields, *KEPT)}
    with atomic.replacing(workdir / RELIABILITY) as path:
        np.savez_compressed(path, allow_pickle=False, case_id=case_id.astype(str), **kept)


def read(case_id: Sequence[str], *workdirs: Path) -> dict[str, np.ndarray]:
    """What `write` kept of these cases in one or several folders, in their order."""
    parts = []
    for workdir in workdirs:
        parts.append(array_files.read_npz(workdir / RELIABILITY, "evaluate it again: --mode=evaluate"))
        if not {*KEPT} <= set(parts[-1]):
            raise InputError(
                f"{workdir} was evaluated by an earlier version; evaluate it again: --mode=evaluate"
            )
    place = pd.Index(np.concatenate([part["case_id"] for part in parts])).get_indexer(case_id)
    return {name: np.concatenate([part[name] for part in parts])[place] for name in (*Sums._fields, *KEPT)}
