"""Inverse-frequency reweighting (Lee et al. 2025)."""

from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.objective import GroupObjective, check_examples, global_sum, safe_divide


def reweighted() -> GroupObjective:
    """F = sum_i w_g(i) l_i / (number of valid examples), w_g = N / (G n_g).

    n_g counts the training cases of group g, N is their sum, and G counts the groups that have any. The weights are
    not divided by the batch's own sum of weights: that would give a 5 % minority a quarter of the loss at
    batch 8, where over all batches it is due half. Examples of unknown group are left out, of the count too.

    Example: counts [3, 1] give w = [2/3, 2]; losses [1, 1, 4] of groups [0, 0, 1] give weights [2/9, 2/9, 2/3],
    and F = 28/9.
    """

    def init(counts: jax.Array, patients: jax.Array | None = None) -> jax.Array:
        del patients
        counts = jnp.asarray(counts, jnp.float32)
        return safe_divide(counts.sum() / (counts > 0).sum(), counts)

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        check_examples(losses, group, mask)
        valid = mask.astype(jnp.result_type(losses)) * (group >= 0)
        # By membership: -1 is a row of zeros, never group 0. No matrix product, which GPUs and TPUs would round.
        weight = (jax.nn.one_hot(group, state.shape[0], dtype=valid.dtype) * state).sum(-1)
        return safe_divide(weight * valid, global_sum(valid, axis_name)), state

    return GroupObjective(init, update)
