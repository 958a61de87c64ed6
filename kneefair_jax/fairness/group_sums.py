"""Sums of scores by group on the device, which add up over shards of the cases."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class GroupSums(NamedTuple):
    """What shards add: the fields of several are summed, and the mean follows.

    Attributes:
        total: f[..., G].
        counts: f[..., G], scores in it; exact to 2^24 in f32.
    """

    total: jax.Array
    counts: jax.Array

    @property
    def mean(self) -> jax.Array:
        """f[..., G]; NaN for a group without a score."""
        return jnp.where(self.counts > 0, self.total / jnp.maximum(self.counts, 1), jnp.nan)


def group_sums(
    scores: jax.Array, membership: jax.Array, mask: jax.Array | None = None, axis_name: str | None = None
) -> GroupSums:
    """Sums by group as two matrix products; NaN scores and padding are left out, whatever padding holds.

    Args:
        scores: f[..., N].
        membership: f[N, G] of zeros and ones; columns may be groups, their intersections, or both.
        mask: [N], 0 = padding.
        axis_name: the devices over which the N are spread, inside `jax.shard_map` or `jax.pmap`.

    Returns:
        Sums over all N, of all devices where `axis_name` is given.
    """
    valid = ~jnp.isnan(scores)
    if mask is not None:
        valid &= mask > 0
        membership = jnp.where(mask[:, None] > 0, membership, 0)

    # Accelerators round the factors of a matrix product to ten bits by default.
    def product(values: jax.Array) -> jax.Array:
        return jnp.matmul(values, membership, precision=jax.lax.Precision.HIGHEST)

    sums = GroupSums(product(jnp.where(valid, scores, 0)), product(valid.astype(scores.dtype)))
    return sums if axis_name is None else jax.lax.psum(sums, axis_name)
