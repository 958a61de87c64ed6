"""Mean losses of the groups in a batch: what most group objectives are functions of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.objective import check_examples, global_sum, safe_divide


class GroupLosses(NamedTuple):
    """L_g of the global batch, and who is in it.

    Attributes:
        member: f32[B,G], 1 where the example is of the group; a row of zeros for padding and unknown groups.
        size: f32[G], examples of each group in the global batch.
        mean: f32[G], L_g; 0 where the group is absent.
    """

    member: jax.Array
    size: jax.Array
    mean: jax.Array

    @property
    def present(self) -> jax.Array:
        """bool[G]: the set P of groups with an example in the global batch."""
        return self.size > 0

    @property
    def share(self) -> jax.Array:
        """f32[G]: 1 / |P| for groups present and 0 for absent ones, so that `(share * x).sum()` is mean_P x."""
        present = self.present.astype(self.mean.dtype)
        return safe_divide(present, present.sum())

    def weights(self, slope: jax.Array) -> jax.Array:
        """dF/dL_g, f32[G] -> dF/dlosses, f32[B]: each example has 1 / n_g of its group's."""
        # Not a matrix product, which GPUs and TPUs would round.
        return (self.member * safe_divide(slope, self.size)).sum(-1)


def group_losses(
    losses: jax.Array, group: jax.Array, mask: jax.Array, groups: int, axis_name: str | None = None
) -> GroupLosses:
    """Means by group over the valid examples of known group.

    Example: losses [1, 3, 5, 9] of groups [0, 0, 1, -1] have means [2, 5] and sizes [2, 1].

    Args:
        losses: f32[B].
        group: i32[B], -1 where unknown.
        mask: f32[B], 0 = padding.
        groups: G.
        axis_name: the devices over which the batch is spread.

    Raises:
        ValueError: the arrays are not all of shape [B].
    """
    check_examples(losses, group, mask)
    dtype = jnp.result_type(losses)
    member = jax.nn.one_hot(group, groups, dtype=dtype) * mask.astype(dtype)[:, None]
    size = global_sum(member, axis_name)
    # What padding holds may be anything, NaN included.
    total = global_sum(jnp.where(member > 0, member * losses[:, None], 0), axis_name)
    return GroupLosses(member, size, safe_divide(total, size))


def training_counts(counts: jax.Array, patients: jax.Array | None = None) -> jax.Array:
    """The state of objectives that keep nothing from batch to batch: i32[G], whose length says how many groups are."""
    del patients
    return jnp.asarray(counts, jnp.int32)
