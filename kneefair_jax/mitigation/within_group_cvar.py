"""Conditional value at risk inside each group, averaged over groups."""

from typing import Any

import jax

from kneefair_jax.mitigation.cvar_dro import tail_weights
from kneefair_jax.mitigation.group_losses import group_losses, training_counts
from kneefair_jax.mitigation.objective import GroupObjective, check_setting


def within_group_cvar(*, alpha: float = 0.5) -> GroupObjective:
    """F = mean over P of CVaR_alpha of the losses of group g, P being the groups present in the batch.

    A group's mean can hide its hard cases; this takes the worst share alpha of each group, as `cvar_dro` does of the
    whole batch, fractional example and ties included. alpha = 1 is `group_balanced`. Examples of unknown group have
    weight 0.

    Source of the idea: DuetFair (Tian et al. 2026, arXiv 2605.10521), robust between groups and inside them; the
    form is ours.

    Example: alpha = 1/2, losses [1, 3, 2, 4, 6] of groups [0, 0, 1, 1, 1]: group 0 counts its 3; group 1 counts 6 and
    half of 4 for 3/2 examples, 16/3; the weights are [0, 1/2, 0, 1/6, 1/3], and F = 25/6.

    Args:
        alpha: share of each group's examples, above 0 and at most 1.

    Raises:
        InputError: alpha is out of its range.
    """
    check_setting("alpha", alpha, above=0, most=1)

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        known = batch.member.sum(-1)
        return batch.share.max() * tail_weights(losses, group, known, alpha, axis_name), state

    return GroupObjective(training_counts, update)
