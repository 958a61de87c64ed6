"""Computes fairness summaries of a score with pure functions of arrays.

They take NumPy or JAX arrays (the array API standard), so they run under `jax.jit`, in a bootstrap of 10,000 draws
(leading axes are batched), or on a float64 table. `group_sums` sums scores on the devices of a training step.

S_g is the mean score of group g over its *patients*, in [0, 1] for overlap scores; S is that of all patients. `error`
maps a score to the error e, which ratios and worst groups use: `overlap_error` (1 - S) by default, the identity for
distances and calibration errors.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = Any  # numpy.ndarray or jax.Array


def overlap_error(score: Array) -> Array:
    """Return 1 - S."""
    return 1 - score


def group_means(scores: Array, membership: Array) -> Array:
    """Return means by group as two matrix products; NaN scores are excluded.

    Args:
        scores: f[..., N], one per patient (or per case, if each patient has one).
        membership: f[N, G] of zeros and ones; groups may overlap, and a row may belong to no group.

    Returns:
        f[..., G]; NaN for a group without a score.
    """
    xp = scores.__array_namespace__()
    has_score = ~xp.isnan(scores)
    total = xp.where(has_score, scores, 0.0) @ membership
    count = xp.astype(has_score, membership.dtype) @ membership
    return xp.where(count > 0, total / xp.where(count > 0, count, 1.0), xp.nan)


def worst(means: Array, error: Callable[[Array], Array] = overlap_error) -> Array:
    """Return max_g e_g: f[..., G] -> f[...]."""
    xp = means.__array_namespace__()
    return xp.max(error(means), axis=-1)


def gap(means: Array) -> Array:
    """Return max_g S_g - min_g S_g, the min-max disparity: f[..., G] -> f[...]."""
    xp = means.__array_namespace__()
    return xp.max(means, axis=-1) - xp.min(means, axis=-1)


def sd(means: Array, ddof: int = 0) -> Array:
    """Return the standard deviation of the group means, of the population by default: f[..., G] -> f[...]."""
    xp = means.__array_namespace__()
    return xp.std(means, axis=-1, correction=ddof)


def ser(means: Array, error: Callable[[Array], Array] = overlap_error) -> Array:
    """Return the skewed error ratio max_g e_g / min_g e_g: f[..., G] -> f[...].

    It is NaN if the smallest error is 0. It is at least 1 by construction, so noise increases it.
    """
    xp = means.__array_namespace__()
    errors = error(means)
    smallest = xp.min(errors, axis=-1)
    ratio = xp.max(errors, axis=-1) / xp.where(smallest > 0, smallest, 1.0)
    return xp.where(smallest > 0, ratio, xp.nan)


def es(means: Array, overall: Array) -> Array:
    """Return the equity-scaled score S / (1 + sum_g |S - S_g|) (FairSeg, ICLR 2024): f[..., G], f[...] -> f[...]."""
    xp = means.__array_namespace__()
    return overall / (1 + xp.sum(xp.abs(overall[..., None] - means), axis=-1))


class GroupSums(NamedTuple):
    """Sums and counts of scores by group; adding those of several shards gives the mean of all.

    Attributes:
        total: f[..., G], sums of scores.
        counts: f[..., G], scores in each sum; exact to 2^24 in f32.
    """

    total: jax.Array
    counts: jax.Array

    @property
    def mean(self) -> jax.Array:
        """The mean score, f[..., G]; NaN for a group without a score."""
        return jnp.where(self.counts > 0, self.total / jnp.maximum(self.counts, 1), jnp.nan)


def group_sums(
    scores: jax.Array, membership: jax.Array, mask: jax.Array | None = None, axis_name: str | None = None
) -> GroupSums:
    """Return sums by group as two matrix products; NaN scores and padding are excluded.

    Args:
        scores: f[..., N].
        membership: f[N, G] of zeros and ones; columns may be groups, their intersections, or both.
        mask: [N], 0 for padding, which may hold any value.
        axis_name: of the devices that share the N cases, inside `jax.shard_map` or `jax.pmap`.

    Returns:
        Sums over all N; with `axis_name`, over all devices.
    """
    valid = ~jnp.isnan(scores)
    if mask is not None:
        valid &= mask > 0
        membership = jnp.where(mask[:, None] > 0, membership, 0)

    # By default, accelerators round the factors of a matrix product to ten bits.
    def product(values: jax.Array) -> jax.Array:
        return jnp.matmul(values, membership, precision=jax.lax.Precision.HIGHEST)

    sums = GroupSums(product(jnp.where(valid, scores, 0)), product(valid.astype(scores.dtype)))
    return sums if axis_name is None else jax.lax.psum(sums, axis_name)
