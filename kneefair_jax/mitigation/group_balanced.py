"""The mean over groups of their mean losses."""

from typing import Any

import jax

from kneefair_jax.mitigation.group_losses import group_losses, training_counts
from kneefair_jax.mitigation.objective import GroupObjective


def group_balanced() -> GroupObjective:
    """F = mean over P of L_g, P being the groups present in the batch.

    What the released code of Lee et al. (2025) runs as "DRO": it has no worst case in it, so it is named for what it
    is. A batch without the rare group teaches the others alone: at batch 8 a 5 % minority is present in a third of
    the batches, so that it gets 17 % of the weight over all of them, not half. Sampling by `equal_share` puts every
    group into every batch. Examples of unknown group have weight 0.

    Example: losses [1, 3, 5] of groups [0, 0, 1] have L = [2, 5]; the weights are [1/4, 1/4, 1/2], and F = 7/2.
    """

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        return batch.weights(batch.share), state

    return GroupObjective(training_counts, update)
