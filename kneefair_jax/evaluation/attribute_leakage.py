"""Where an attribute shows: how well it is predicted from the image, the crop, the mask and the network's features.

The audit of Lee et al. (STACOM 2023). A gap in Dice can only be of the image's making if the image tells the groups
apart; if the crop to the structures does not, it is what lies around them (a marker, the collimation, other tissue);
if the mask does, size and shape or the drawing of contours differ.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from kneefair_jax import anatomy, groups
from kneefair_jax.data.case_arrays import Arrays
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.fairness.attribute_auc import attribute_auc, components

SIZE = (32, 32)


def root_cause(
    cohort: Cohort, cases: Arrays, features: np.ndarray | None, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """The `root_cause` of `report.json`.

    By cross-validation over all cases of the cohort with a known level: train, validation and test together.

    Args:
        cohort: the cohort.
        cases: its prepared cases.
        features: f32[N, C] of all cases from the network's deepest layer; None where the network itself would tell
            the group: of several, each has one, and a head may have been shown it in training.
        seed: of everything random.

    Returns:
        attribute -> `image`, `crop`, `mask`, `features` -> `attribute_auc`'s entry, with the names of `levels`.
    """
    inputs: dict[str, np.ndarray] = dict(small(cases, len(cohort.structures)))
    if features is not None:
        inputs["features"] = features
    inputs = {name: components(values, seed) for name, values in inputs.items()}
    patients = cohort.cases["patient_id"].to_numpy()
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for attribute in cohort.attributes:
        part = groups.partition(cohort.cases, [attribute])
        result[attribute] = {}
        for name, values in inputs.items():
            entry = attribute_auc(values, part.index, patients, seed)
            result[attribute][name] = entry | {"levels": [part.names[k] for k in entry["levels"]]}
    return result


def small(cases: Arrays, structures: int) -> Mapping[str, np.ndarray]:
    """Every case at `SIZE` pixels: means over areas of the image, of its crop to the structures, and of each mask.

    The crop is the smallest box that holds all true structures, stretched to the same size; of a case without any, the
    image. So position and size of the bones show in the mask and the image, and not in the crop.

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
        whole = (slice(0, label.shape[0]), slice(0, label.shape[1]))
        rows["image"].append(_small(image, whole))
        rows["crop"].append(_small(image, _box(label) or whole))
        masks = [_small((label == s + 1).astype(np.float32), whole) for s in range(structures)]
        rows["mask"].append(np.concatenate(masks))
    return {name: np.stack(values) for name, values in rows.items()}


def _box(label: np.ndarray) -> tuple[slice, slice] | None:
    down, across = np.nonzero(label)
    if not len(down):
        return None
    return slice(down.min(), down.max() + 1), slice(across.min(), across.max() + 1)


def _small(image: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image[box]))
    return np.asarray(picture.resize(SIZE[::-1], Image.Resampling.BOX)).ravel()
