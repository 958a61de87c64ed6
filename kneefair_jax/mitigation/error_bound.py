"""Fair error-bound scaling: groups weighted by how large their loss is (Tian et al., FairSeg, ICLR 2024)."""

from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.group_losses import group_losses, training_counts
from kneefair_jax.mitigation.objective import GroupObjective, check_setting, safe_divide


def error_bound(*, power: float = 1.0) -> GroupObjective:
    """F = mean over P of w_g L_g, w_g = sg[(L_g / mean_P L)^gamma] scaled to mean 1 over P, the groups present.

    The form is ours, of the paper's intent: more weight to groups with more error. Its released code gives the worst
    group the smallest weight, and makes every weight 0 when a group is absent. Losses must not be negative. Groups
    without any loss at all are equals. Examples of unknown group have weight 0.

    Example: gamma = 1, losses [0, 2, 3] of groups [0, 0, 1] have L = [1, 3] and w = [1/2, 3/2]; the weights are
    [1/8, 1/8, 3/4], and F = 5/2.

    Args:
        power: gamma, at least 0; 0 is `group_balanced`. Below 0 the worst group would be weighted down.

    Raises:
        InputError: the power is out of its range.
    """
    check_setting("power", power)

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        # Relative to the largest, since the scale cancels and no power of a number up to 1 overflows.
        largest = batch.mean.max()
        relative = jnp.where(largest > 0, safe_divide(batch.mean, largest), 1)
        raised = batch.present * relative**power
        return batch.weights(safe_divide(raised, raised.sum())), state

    return GroupObjective(training_counts, update)
