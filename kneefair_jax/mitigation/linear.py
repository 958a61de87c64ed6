"""Objectives whose weights do not depend on the losses: ERM, inverse-frequency weights, equal weights of the groups."""

from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.objective import (
    GroupObjective,
    check_examples,
    empty_state,
    global_sum,
    group_losses,
    mean_weights,
    safe_divide,
    training_counts,
)


def erm() -> GroupObjective:
    """F = mean of the losses of all valid examples, whatever their group: empirical risk minimization, the baseline.

    Example: losses [1, 3, 5] with mask [1, 1, 0] get weights [1/2, 1/2, 0], and F = 2.
    """

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        check_examples(losses, group, mask)
        return mean_weights(losses, mask, axis_name), state

    return GroupObjective(empty_state, update)


def reweighted() -> GroupObjective:
    """F = sum_i w_g(i) l_i / (number of valid examples), w_g = N / (G n_g): inverse-frequency weights.

    n_g counts the training cases of group g, N is their sum, and G counts the groups that have any. The weights are
    not divided by the batch's own sum of weights: that would give a 5 % minority a quarter of the loss at batch 8,
    while its share over all batches should be half. Examples of unknown group have weight 0 and are not counted.

    Reference: Lee et al. (2025).

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
        # By membership: -1 is a row of zeros, never group 0. Not a matrix product, which GPUs and TPUs would round.
        weight = (jax.nn.one_hot(group, state.shape[0], dtype=valid.dtype) * state).sum(-1)
        return safe_divide(weight * valid, global_sum(valid, axis_name)), state

    return GroupObjective(init, update)


def group_balanced() -> GroupObjective:
    """F = mean over P of L_g, P being the groups present in the batch.

    The released code of Lee et al. (2025) calls this "DRO", but it has no worst case. A batch without the rare group
    trains on the other groups alone: at batch 8 a 5 % minority is present in a third of the batches, so that it gets
    17 % of the weight over all of them, not half. Sampling by `equal_share` puts every group into every batch.
    Examples of unknown group have weight 0.

    Example: losses [1, 3, 5] of groups [0, 0, 1] have L = [2, 5]; the weights are [1/4, 1/4, 1/2], and F = 7/2.
    """

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        return batch.weights(batch.share), state

    return GroupObjective(training_counts, update)
