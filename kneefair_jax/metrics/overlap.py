"""Dice and IoU per case and structure, from counts of pixels.

A structure that is absent from both prediction and truth scores NaN: means exclude it, and reports show the count. One
that is absent from one of the two scores 0. Background is not a structure.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Overlap(NamedTuple):
    """Pixels of each structure, i32[B, S] each."""

    intersection: jax.Array
    predicted: jax.Array
    true: jax.Array


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
    return _ratio(2 * counts.intersection, counts.predicted + counts.true)


def iou(counts: Overlap) -> jax.Array:
    """|P and T| / |P or T|, f32[B, S] in [0, 1] or NaN (Jaccard 1912)."""
    return _ratio(counts.intersection, counts.predicted + counts.true - counts.intersection)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(b > 0, a / jnp.maximum(b, 1), jnp.nan)
