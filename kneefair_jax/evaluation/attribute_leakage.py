"""Measure how well an attribute is predicted from the image, the crop, the mask and the network's features.

The analysis follows Lee et al. (STACOM 2023). The image can cause a gap in Dice only if it predicts the attribute. If
the image predicts it and the crop to the structures does not, the cue lies outside the structures (a marker, the
collimation, other tissue). If the mask predicts it, size, shape or the style of contouring differ.
"""

from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from kneefair_jax import anatomy, groups
from kneefair_jax.data.case_arrays import Arrays
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.store import Cases
from kneefair_jax.fairness.attribute_auc import attribute_auc, components
from kneefair_jax.report.schema import AttributeAuc
from kneefair_jax.training import scoring, steps
from kneefair_jax.training.setup import Experiment

SIZE = (32, 32)


def attribute_aucs(
    cohort: Cohort, cases: Arrays, features: np.ndarray | None, seed: int
) -> dict[str, dict[str, AttributeAuc]]:
    """Return the `root_cause` of `report.json`: the area under the ROC curve by attribute and input.

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
    if not config.report.root_cause or len(variables) > 1 or config.mitigation.head.name != "none":
        return None
    step = jax.jit(steps.make_feature_step(experiment.model))
    run = {"batch_size": config.train.batch_size, "mesh": experiment.mesh}
    rows = np.arange(len(cohort.cases))
    group = experiment.partition.index
    features: np.ndarray = scoring.predict_cases(step, variables[0], cases, rows, group=group, **run)[
        "features"
    ]
    return features


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
