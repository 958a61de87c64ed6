"""Risk extrapolation by the variance of the groups' losses (V-REx; Krueger et al., ICML 2021)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.group_losses import group_losses, training_counts
from kneefair_jax.mitigation.objective import GroupObjective, check_setting, weighted_sum


class AnnealingState(NamedTuple):
    """What a run with `anneal_steps` carries along.

    Attributes:
        counts: i32[G], training cases of each group.
        step: i32[], batches so far.
    """

    counts: jax.Array
    step: jax.Array


def vrex(*, penalty: float = 1.0, anneal_steps: int = 0) -> GroupObjective:
    """F = mean_P L_g + beta Var_P(L_g), P being the groups present in the batch.

    Mean and variance (the population's: divided by |P|) are over groups, so that examples of unknown group have
    weight 0; fewer than two groups have no variance. dF/dL_g = (1 + 2 beta (L_g - mean_P L)) / |P|, which is negative
    for a group that fares much better than the others. F is not linear in the losses: the sum of weights times losses,
    which has F's gradient, is mean_P L_g + 2 beta Var_P(L_g); `value` takes beta Var_P(L_g) off again.

    Source: Krueger et al. 2021, with the mean of the risks in place of their sum. Their experiments anneal: beta is 1
    in the first `anneal_steps` batches. Their code also divides F by a beta above 1, and some reimplementations
    restart Adam where beta rises; neither is done here.

    Example: beta = 1, losses [1, 3, 5] of groups [0, 0, 1] have L = [2, 5], mean 7/2, variance 9/4; dF/dL = [-1, 2],
    the weights are [-1/2, -1/2, 2], and F = 23/4.

    Args:
        penalty: beta, at least 0; 0 is `group_balanced`.
        anneal_steps: batches with a beta of 1 before it is `penalty`; 0 for none.

    Raises:
        InputError: a setting is out of its range.
    """
    check_setting("penalty", penalty)
    check_setting("anneal_steps", anneal_steps)

    def init(counts: jax.Array, patients: jax.Array | None = None) -> Any:
        counts = training_counts(counts, patients)
        return AnnealingState(counts, jnp.int32(0)) if anneal_steps else counts

    def parts(state: Any) -> tuple[jax.Array, float | jax.Array]:
        """Counts of the groups, and beta of the batch."""
        if not anneal_steps:
            return state, penalty
        return state.counts, jnp.where(state.step < anneal_steps, 1.0, penalty)

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        counts, beta = parts(state)
        batch = group_losses(losses, group, mask, counts.shape[0], axis_name)
        mean = (batch.share * batch.mean).sum()
        weights = batch.weights(batch.share * (1 + 2 * beta * (batch.mean - mean)))
        return weights, state._replace(step=state.step + 1) if anneal_steps else state

    def value(
        weights: jax.Array,
        losses: jax.Array,
        group: jax.Array,
        mask: jax.Array,
        state: Any,
        axis_name: str | None = None,
    ) -> jax.Array:
        counts, beta = parts(state)
        batch = group_losses(losses, group, mask, counts.shape[0], axis_name)
        mean = (batch.share * batch.mean).sum()
        variance = (batch.share * (batch.mean - mean) ** 2).sum()
        return weighted_sum(weights, losses, group, mask, state, axis_name) - beta * variance

    return GroupObjective(init, update, value)
