"""Dice and IoU per case and structure, from counts of pixels, on the device and on the host.

A structure that is absent from both prediction and truth scores NaN: means exclude it, and reports show the count. One
that is absent from one of the two scores 0. Background is not a structure.

`overlap`, `dice` and `iou` run in compiled code. `mask_scores` adds distances and areas on the host, for label maps of
any size; `score_by_layer` scores structures that share pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from kneefair_jax.metrics.surface import surface_distances


class Overlap(NamedTuple):
    """Pixels of each structure, i32[B, S] each."""

    intersection: jax.Array
    predicted: jax.Array
    true: jax.Array


Scores = dict[str, np.ndarray]
# S for the labels 1..S, or bool[S, labels]: which labels belong to each of S structures, which may share labels.
Structures = int | jax.Array | np.ndarray


def overlap(
    prediction: jax.Array, label: jax.Array, structures: Structures, valid: jax.Array | None = None
) -> Overlap:
    """Count the pixels of S structures in prediction, in truth, and in both.

    Compiled code cannot refuse a label by its value: a label outside 0..S belongs to no structure, like background. On
    the host, `mask_scores` refuses such a label.

    Args:
        prediction: integers [B, H, W].
        label: integers [B, H, W].
        structures: S, or which labels belong to each structure.
        valid: bool[B, H, W], False in void pixels, which do not count in any mask; None if no pixel is void.

    Raises:
        ValueError: the shapes differ (broadcasting (B,) against (B, 1) would silently score all pairs).
    """
    if prediction.shape != label.shape or prediction.ndim != 3:
        raise ValueError(f"prediction and label must both be [B,H,W]: {prediction.shape}, {label.shape}")
    predicted, true = structure_masks(prediction, structures), structure_masks(label, structures)
    if valid is not None:
        predicted, true = predicted & valid[..., None], true & valid[..., None]
    return Overlap(*((x.sum((1, 2), dtype=jnp.int32)) for x in (predicted & true, predicted, true)))


def structure_masks(label: jax.Array, structures: Structures) -> jax.Array:
    """Return the mask of each structure, bool[B, H, W, S], of a label map, integers [B, H, W]."""
    if isinstance(structures, int):
        return label[..., None] == jnp.arange(1, structures + 1)
    # A label outside the table belongs to no structure.
    return jnp.take(jnp.asarray(structures).T, label, axis=0, mode="fill", fill_value=False)


def dice(counts: Overlap) -> jax.Array:
    """2 |P and T| / (|P| + |T|), f32[B, S] in [0, 1] or NaN (Dice 1945)."""
    dice: jax.Array = _ratio(2 * counts.intersection, counts.predicted + counts.true)
    return dice


def iou(counts: Overlap) -> jax.Array:
    """|P and T| / |P or T|, f32[B, S] in [0, 1] or NaN (Jaccard 1912)."""
    iou: jax.Array = _ratio(counts.intersection, counts.predicted + counts.true - counts.intersection)
    return iou


def _ratio(a: Any, b: Any) -> Any:
    """Return a / b of arrays of NumPy or JAX, NaN where b is 0."""
    xp = a.__array_namespace__()
    return xp.where(b > 0, a / xp.maximum(b, 1), xp.nan)


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


def mask_scores(
    prediction: np.ndarray, truth: np.ndarray, structures: int, spacing: ArrayLike
) -> dict[str, np.ndarray]:
    """Return overlap, surface distances and areas of one case.

    Args:
        prediction: integers [H, W], background as 0 and structures as 1..S; void pixels as 0 in both masks.
        truth: integers [H, W].
        structures: S.
        spacing: mm per pixel down and across; NaN where it is unknown.

    Returns:
        `dice`, `iou`, `hd95_mm`, `assd_mm`, `nsd`, `true_area_mm2`, `pred_area_mm2`, f64[S] each: those of
        `surface_distances`; overlaps are NaN where a structure is in neither mask, areas where the spacing is unknown.

    Raises:
        ValueError: the shapes differ, a mask holds another label (`surface.check_labels`), or a spacing is not
            positive.

    Example:
        >>> truth = np.array([[1, 1, 0, 0]], np.uint8)
        >>> scores = mask_scores(np.roll(truth, 1), truth, structures=1, spacing=(1.0, 2.0))
        >>> scores["dice"].tolist(), scores["true_area_mm2"].tolist()
        ([0.5], [4.0])
    """
    # First, because it checks shapes, labels and spacings for all scores.
    distances = surface_distances(prediction, truth, structures, spacing)
    counts = confusion_matrix(truth, prediction, structures)
    intersection, in_truth, in_prediction = np.diag(counts)[1:], counts.sum(1)[1:], counts.sum(0)[1:]
    pixel_mm2 = float(np.asarray(spacing, float).prod())
    return {
        "dice": _ratio(2 * intersection, in_truth + in_prediction),
        "iou": _ratio(intersection, in_truth + in_prediction - intersection),
        **distances,
        "true_area_mm2": in_truth * pixel_mm2,
        "pred_area_mm2": in_prediction * pixel_mm2,
    }
