"""Label maps on the host: their valid labels, their confusion matrix, and scores of structures that share pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Scores = dict[str, np.ndarray]


def check_labels(structures: int, **masks: np.ndarray) -> None:
    """Refuse masks with a label outside 0 (background) to S, which would count as another structure or as background.

    `overlap` cannot read values in compiled code on the device: there, such a label belongs to no structure.

    Args:
        structures: S.
        masks: name in the message -> label mask of any shape.

    Raises:
        ValueError: a mask is not of integers (or booleans), or holds a label outside 0 to S.

    Example:
        >>> check_labels(2, truth=np.array([[0, 3]]))
        Traceback (most recent call last):
        ValueError: truth: label 3 is not from 0 to S = 2; relabel it, or set void pixels to 0
    """
    for name, mask in masks.items():
        if mask.dtype.kind not in "iub":
            raise ValueError(f"{name}: labels are {mask.dtype}; give integers from 0 to S = {structures}")
        if not mask.size:
            continue
        for label in (int(mask.max()), int(mask.min())):
            if not 0 <= label <= structures:
                raise ValueError(
                    f"{name}: label {label} is not from 0 to S = {structures}; relabel it, or set void pixels to 0"
                )


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, structures: int) -> np.ndarray:
    """Count the pixels by true label and predicted label.

    Args:
        truth: integers from 0 to S, of any shape.
        prediction: the same.
        structures: S.

    Returns:
        i64[S + 1, S + 1], a row for each true label and a column for each predicted label.
    """
    labels = structures + 1
    pairs = truth.ravel().astype(np.int64) * labels + prediction.ravel().astype(np.int64)
    return np.bincount(pairs, minlength=labels**2).reshape(labels, labels)


def score_by_layer(
    score: Callable[..., Scores], layers: Sequence[np.ndarray], *masks: np.ndarray, **options: Any
) -> Scores:
    """Score label maps whose labels stand for several structures, one layer at a time.

    Args:
        score: `score(*masks, structures=S, **options)` -> scores f[..., S] by name, of label maps of structures 1..S:
            `mask_scores`, `surface_distances` or `boundary_errors`.
        layers: integer tables, label -> structure or 0 (`anatomy.layers`); each structure is in one of them.
        masks: label maps, one for each argument of `score`.
        options: further arguments of `score`, such as `spacing`.

    Returns:
        f[..., S] by name: the scores of each structure by its layer.
    """
    layer_of = {int(structure): k for k, table in enumerate(layers) for structure in table if structure}
    scores = [
        score(*(table[mask] for mask in masks), structures=len(layer_of), **options) for table in layers
    ]
    return {
        name: np.stack(
            [scores[k][name][..., structure - 1] for structure, k in sorted(layer_of.items())], axis=-1
        )
        for name in scores[0]
    }
