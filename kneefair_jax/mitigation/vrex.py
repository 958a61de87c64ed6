"""Risk extrapolation by the variance of the groups' losses (V-REx; Krueger et al., ICML 2021)."""

from typing import Any

import jax

from kneefair_jax.mitigation.group_losses import group_losses, training_counts
from kneefair_jax.mitigation.objective import GroupObjective, check_setting, weighted_sum


def vrex(*, penalty: float = 1.0) -> GroupObjective:
    """F = mean_P L_g + beta Var_P(L_g), P being the groups present in the batch.

    Mean and variance (the population's: divided by |P|) are over groups, so that examples of unknown group have
    weight 0; fewer than two groups have no variance. dF/dL_g = (1 + 2 beta (L_g - mean_P L)) / |P|, which is negative
    for a group that fares much better than the others. F is not linear in the losses: the sum of weights times losses,
    which has F's gradient, is mean_P L_g + 2 beta Var_P(L_g); `value` takes beta Var_P(L_g) off again.

    Source: Krueger et al. 2021, with the mean of the risks in place of their sum.

    Example: beta = 1, losses [1, 3, 5] of groups [0, 0, 1] have L = [2, 5], mean 7/2, variance 9/4; dF/dL = [-1, 2],
    the weights are [-1/2, -1/2, 2], and F = 23/4.

    Args:
        penalty: beta, at least 0; 0 is `group_balanced`.

    Raises:
        InputError: the penalty is out of its range.
    """
    check_setting("penalty", penalty)

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        mean = (batch.share * batch.mean).sum()
        return batch.weights(batch.share * (1 + 2 * penalty * (batch.mean - mean))), state

    def value(
        weights: jax.Array,
        losses: jax.Array,
        group: jax.Array,
        mask: jax.Array,
        state: Any,
        axis_name: str | None = None,
    ) -> jax.Array:
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        mean = (batch.share * batch.mean).sum()
        variance = (batch.share * (batch.mean - mean) ** 2).sum()
        return weighted_sum(weights, losses, group, mask, state, axis_name) - penalty * variance

    return GroupObjective(training_counts, update, value)
