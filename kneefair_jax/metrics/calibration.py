"""Calibration of predicted probabilities per case and structure, counted on the device.

Each structure is a binary classification of its own. Only pixels around the structure count: far from every bone a
network is confident and correct, so an image with more background would look better calibrated. The region follows the
prediction, and the truth only where it extends beyond: a region around the truth would select pixels by their label,
and perfectly calibrated probabilities of small structures would look overconfident (docs/statistics.md).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.metrics.overlap import Structures, structure_masks

BINS = 15  # of equal width, as in Guo et al. (ICML 2017)
MARGIN = (
    0.25  # share of a box's height above and below it, and of its width left and right; rounded up to pixels
)


class Reliability(NamedTuple):
    """Sums over the pixels of each bin, f32[B, S, bins] each; those of several cases add up.

    Attributes:
        pixels: pixels of the box with a probability in the bin.
        confidence: the sum of their probabilities.
        accuracy: how many of them belong to the structure.
    """

    pixels: jax.Array
    confidence: jax.Array
    accuracy: jax.Array


def reliability(
    probability: jax.Array,
    label: jax.Array,
    bins: int = BINS,
    valid: jax.Array | None = None,
    structures: Structures | None = None,
) -> Reliability:
    """Count the pixels of each structure's box by their probability.

    The box of the pixels with a probability of at least 0.5, or of the true structure where there is none, is grown by
    `MARGIN` of its own height and width on each side, then extended to contain the true structure, and cropped to the
    image. Bin k holds probabilities p with k <= p * bins < k + 1, the last also p = 1. A structure that is
    absent from the truth has no box.

    Args:
        probability: f[B, H, W, S] in [0, 1].
        label: integers [B, H, W].
        bins: the number of bins of equal width.
        valid: bool[B, H, W], False in void pixels, which do not count; None if no pixel is void.
        structures: which labels belong to each structure (`overlap`); None for the labels 1..S.

    Raises:
        ValueError: the shapes do not fit.
    """
    if probability.ndim != 4 or probability.shape[:3] != label.shape:
        raise ValueError(f"give [B,H,W,S] and [B,H,W]: {probability.shape}, {label.shape}")
    true = structure_masks(label, probability.shape[-1] if structures is None else structures)
    if valid is not None:
        true = true & valid[..., None]
    predicted = probability >= 0.5
    if valid is not None:
        predicted = predicted & valid[..., None]
    present = true.any((1, 2), keepdims=True)
    core = jnp.where(predicted.any((1, 2), keepdims=True), predicted, true) & present
    inside = _span(core.any(2), true.any(2))[:, :, None] & _span(core.any(1), true.any(1))[:, None]
    if valid is not None:
        inside = inside & valid[..., None]
    bin_index = jnp.clip((probability * bins).astype(jnp.int32), 0, bins - 1)

    weight = inside.astype(jnp.float32)
    values = jnp.stack([weight, weight * probability, weight * true], -1)

    def structure_sums(values: jax.Array, bin_index: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values.reshape(-1, 3), bin_index.ravel(), bins)

    # A scatter for each case, so that cases stay on their devices; on CPU four times as fast as a loop over bins.
    sums = jax.vmap(jax.vmap(structure_sums, in_axes=(2, 2)))(values, bin_index)
    return Reliability(*jnp.moveaxis(sums, -1, 0))


def ece(sums: Reliability) -> jax.Array:
    """Return the expected calibration error: the bins' |accuracy - confidence|, weighted by their pixels.

    Reference: Naeini et al. (AAAI 2015), applied to the probability of each structure, not only of the top class.

    Returns:
        f32[B, S] in [0, 1]; NaN where the structure is absent from the truth and so has no box.
    """
    pixels = sums.pixels.sum(-1)
    difference = jnp.abs(sums.accuracy - sums.confidence).sum(-1)
    return jnp.where(pixels > 0, difference / jnp.maximum(pixels, 1), jnp.nan)


def _span(core: jax.Array, true: jax.Array) -> jax.Array:
    """The span of `core` grown by `MARGIN` of its length on each side and extended to `true`, bool[B, N, S]."""
    index = jnp.arange(core.shape[1])[:, None]
    first, last = _ends(core)
    margin = jnp.ceil(MARGIN * (last - first + 1)).astype(jnp.int32)
    true_first, true_last = _ends(true)
    start, stop = jnp.minimum(first - margin, true_first), jnp.maximum(last + margin, true_last)
    return (index >= start) & (index <= stop) & (first <= last)


def _ends(occupied: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first and the last occupied index, i32[B, 1, S] each, of bool[B, N, S]; N and -1 if there is none."""
    index = jnp.arange(occupied.shape[1])[:, None]
    first = jnp.where(occupied, index, occupied.shape[1]).min(1, keepdims=True)
    return first, jnp.where(occupied, index, -1).max(1, keepdims=True)
