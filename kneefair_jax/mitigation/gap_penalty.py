"""The mean loss and a price on the gap between the groups."""

from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.group_losses import group_losses, training_counts
from kneefair_jax.mitigation.objective import GroupObjective, check_setting, global_sum, safe_divide


def gap_penalty(*, penalty: float = 1.0) -> GroupObjective:
    """F = mean of the losses + lambda (max_P L_g - min_P L_g), P being the groups present in the batch.

    The mean is over all valid examples, those of unknown group included; the gap is over known groups, and 0 when
    fewer than two are present. Groups tied at the largest or at the smallest L_g share its weight equally. The weights
    of the group that fares best are negative once lambda is large: the gap can be closed by making it worse.

    Source: the max - min penalty of DAMed, on the mean losses of the batch.

    Example: lambda = 1/2, losses [1, 3, 5] of groups [0, 0, 1] have L = [2, 5]; the weights are 1/3 - 1/4, 1/3 - 1/4
    and 1/3 + 1/2, that is [1/12, 1/12, 5/6], and F = 3 + 3/2.

    Args:
        penalty: lambda, at least 0; 0 is `erm`.

    Raises:
        InputError: the penalty is out of its range.
    """
    check_setting("penalty", penalty)

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        # Computed once: a compiler that did it twice could round it otherwise, and nothing would equal the largest.
        mean = jax.lax.optimization_barrier(batch.mean)
        largest = batch.present & (mean == jnp.where(batch.present, mean, -jnp.inf).max())
        smallest = batch.present & (mean == jnp.where(batch.present, mean, jnp.inf).min())
        gap = batch.weights(_equal_shares(largest) - _equal_shares(smallest))
        mask = mask.astype(jnp.result_type(losses))
        return safe_divide(mask, global_sum(mask, axis_name)) + penalty * gap, state

    return GroupObjective(training_counts, update)


def _equal_shares(chosen: jax.Array) -> jax.Array:
    chosen = chosen.astype(jnp.float32)
    return safe_divide(chosen, chosen.sum())
