"""Sums scores by group on the device; the sums of shards of the cases add up."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


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
