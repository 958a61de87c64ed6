"""Analyses beside a gap: the size of structures, calibration by group, and what predicts the attribute.

Attribute leakage follows Lee et al. (STACOM 2023): the area under the ROC curve of an attribute, predicted from the
image, the crop, the mask and the network's features. The image can cause a gap in Dice only if it predicts the
attribute. If the image predicts it and the crop to the structures does not, the cue lies outside the structures (a
marker, the collimation, other tissue). If the mask predicts it, size, shape or the style of contouring differ.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict
from PIL import Image

from kneefair_jax import anatomy, groups, metrics
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.pipeline import Arrays
from kneefair_jax.data.store import Cases
from kneefair_jax.fairness import reference_ser
from kneefair_jax.fairness.group_calibration import Sums, calibration
from kneefair_jax.fairness.patient_table import FAILURE_DICE
from kneefair_jax.report.schema import AttributeAuc, Calibration, Scores
from kneefair_jax.runtime import atomic, checked_files
from kneefair_jax.training import scoring, steps
from kneefair_jax.training.setup import Experiment

SIZE = (32, 32)

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
            # Each thread reads its own cases: the masks of all cases may not fit in memory.
            errors = list(pool.map(lambda row, mm: case_errors(cases[row]["label"], mm), rows, spacing))
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
    remedy, names = "evaluate it again: --mode=evaluate", ("case_id", *_FIELDS)
    parts = [checked_files.read_npz(workdir / RELIABILITY, remedy, names) for workdir in workdirs]
    rows = pd.Index(np.concatenate([part["case_id"] for part in parts])).get_indexer(case_id)
    return {name: np.concatenate([part[name] for part in parts])[rows] for name in _FIELDS}


def attribute_aucs(
    cohort: Cohort, cases: Arrays, features: np.ndarray | None, seed: int
) -> dict[str, dict[str, AttributeAuc]]:
    """Return the `attribute_leakage` of `report.json`: the area under the ROC curve by attribute and input.

    Cross-validation runs over all cases of the cohort with a known level: train, validation and test together.

    Args:
        cohort: the cohort.
        cases: its prepared cases.
        features: f32[N, C], features of all cases from the network's deepest layer; None where the network itself uses
            the attribute (one model a group, or a head trained with the attribute).
        seed: seed of the cross-validation and of the principal components.

    Returns:
        attribute -> `image`, `crop`, `mask`, `features` -> the entry of `attribute_auc`, with the names of `levels`.
    """
    # Imported late: scikit-learn takes a quarter of a second, and few runs ask for these areas.
    from kneefair_jax.fairness.attribute_auc import attribute_auc, components

    inputs = thumbnails(cases, len(cohort.structures))
    if features is not None:
        inputs["features"] = features
    inputs = {name: components(values, seed) for name, values in inputs.items()}
    patients = cohort.cases["patient_id"].to_numpy()
    result: dict[str, dict[str, AttributeAuc]] = {}
    for attribute in cohort.attributes:
        partition = groups.partition(cohort.cases, [attribute])
        result[attribute] = {}
        for name, values in inputs.items():
            entry = attribute_auc(values, partition.index, patients, seed)
            levels = [partition.names[k] for k in entry["levels"]]
            result[attribute][name] = cast(AttributeAuc, entry | {"levels": levels})
    return result


def network_features(
    config: ConfigDict,
    experiment: Experiment,
    cohort: Cohort,
    cases: Cases,
    variables: Sequence[dict[str, Any]],
) -> np.ndarray | None:
    """Return the network's deepest features of every case, f32[N, C].

    None where the config does not ask for attribute leakage, and where groups shaped the network.
    """
    if not config.report.attribute_leakage or len(variables) > 1 or config.mitigation.head.name != "none":
        return None
    step = jax.jit(steps.make_feature_step(experiment.model))
    values: dict[str, np.ndarray] = scoring.predict_cases(
        step,
        variables[0],
        cases,
        np.arange(len(cohort.cases)),
        group=experiment.partition.index,
        batch_size=config.train.batch_size,
    )
    return values["features"]


def thumbnails(cases: Arrays, structures: int) -> dict[str, np.ndarray]:
    """Reduce the image of every case, its crop to the structures, and each mask to `SIZE` pixels by area means.

    The crop is the smallest box that holds all true structures, stretched to the same size; for a case without
    structures, it is the image. Position and size of the bones therefore show in the mask and the image, and not in the
    crop.

    Args:
        cases: N prepared cases.
        structures: S.

    Returns:
        `image` and `crop`, f32[N, 32 * 32] in grey values, and `mask`, f32[N, S * 32 * 32] in [0, 1].
    """
    rows: dict[str, list[np.ndarray]] = {"image": [], "crop": [], "mask": []}
    for row in range(len(cases)):
        case = cases[row]
        image, label = case["image"].mean(-1, dtype=np.float32), anatomy.clear_void(case["label"])
        full = (slice(0, label.shape[0]), slice(0, label.shape[1]))
        rows["image"].append(_thumbnail(image, full))
        rows["crop"].append(_thumbnail(image, _box(label) or full))
        masks = [_thumbnail((label == s + 1).astype(np.float32), full) for s in range(structures)]
        rows["mask"].append(np.concatenate(masks))
    return {name: np.stack(values) for name, values in rows.items()}


def _box(label: np.ndarray) -> tuple[slice, slice] | None:
    rows, columns = np.nonzero(label)
    if not len(rows):
        return None
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def _thumbnail(image: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image[box]))
    return np.asarray(picture.resize(SIZE[::-1], Image.Resampling.BOX)).ravel()
