"""Conditional value at risk (CVaR): the mean of the worst share of the losses, over all or within each group."""

from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.objective import (
    GroupObjective,
    check_examples,
    empty_state,
    global_gather,
    group_losses,
    safe_divide,
    training_counts,
)
from kneefair_jax.mitigation.registry import register
from kneefair_jax.runtime.schema import Number

SHARE = Number(0, 1, exclusive_low=True)


@register({"alpha": SHARE}, uses_groups=False)
def cvar_dro(*, alpha: float = 0.5) -> GroupObjective:
    """F = CVaR_alpha = mean of the worst share alpha of the losses of all valid examples; it uses no group label.

    With k = alpha n and n valid examples, the floor(k) largest losses count in full and the next one counts for the
    remaining fraction of k: F = max of sum_i w_i l_i over 0 <= w_i <= 1/k, sum_i w_i = 1. Examples tied at the
    threshold share its weight equally, so that their order does not matter. alpha = 1 is `erm`; alpha n <= 1 is the
    largest loss alone.

    References: Duchi and Namkoong (Annals of Statistics 2021); by batch as here, Levy et al. (NeurIPS 2020). Its
    expectation over batches is below the CVaR of the whole training set and approaches it as the batch grows.

    Example: alpha = 1/2, losses [1, 4, 2, 3, 0]: k = 5/2, the weights are [0, 2/5, 1/5, 2/5, 0], and F = 16/5.

    Args:
        alpha: share of examples, above 0 and at most 1.

    Raises:
        InputError: alpha is out of its range.
    """

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        losses, group, mask = check_examples(losses, group, mask)
        valid = mask.astype(jnp.result_type(losses))
        return tail_weights(losses, jnp.zeros_like(group), valid, alpha, axis_name), state

    return GroupObjective(empty_state, update)


@register({"alpha": SHARE})
def within_group_cvar(*, alpha: float = 0.5) -> GroupObjective:
    """F = mean over P of CVaR_alpha of the losses of group g, P being the groups present in the batch.

    A group's mean can hide its hard cases; this objective takes the worst share alpha of each group, as `cvar_dro`
    does of the whole batch, with the same fractional example and ties. alpha = 1 is `group_balanced`. Examples of
    unknown group have weight 0.

    Reference: DuetFair (Tian et al. 2026, arXiv 2605.10521), robust between groups and within them; the form here is
    this project's.

    Example: alpha = 1/2, losses [1, 3, 2, 4, 6] of groups [0, 0, 1, 1, 1]: group 0 counts its 3; group 1 counts 6 and
    half of 4 for 3/2 examples, 16/3; the weights are [0, 1/2, 0, 1/6, 1/3], and F = 25/6.

    Args:
        alpha: share of each group's examples, above 0 and at most 1.

    Raises:
        InputError: alpha is out of its range.
    """

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        losses, group, mask = check_examples(losses, group, mask, state.shape[0])
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        grouped = batch.member.sum(-1)
        return batch.share.max() * tail_weights(losses, group, grouped, alpha, axis_name), state

    return GroupObjective(training_counts, update)


def tail_weights(
    losses: jax.Array, group: jax.Array, valid: jax.Array, alpha: float, axis_name: str | None = None
) -> jax.Array:
    """Return dCVaR_alpha/dlosses within each group; over the global batch, they sum to 1 for each group present.

    The function compares every example with every other, so that ties need no order. That takes b x B numbers, which
    is little beside a batch of images.

    Args:
        losses: f32[b], of this device.
        group: i32[b].
        valid: f32[b], 0 for examples that do not count.
        alpha: share of each group.
        axis_name: the devices over which the batch is spread.

    Returns:
        f32[b].
    """
    # Computed once: a compiler that recomputed a loss could round it differently, and no loss would equal itself.
    losses = jax.lax.optimization_barrier(losses)
    all_losses, all_groups, all_valid = (global_gather(x, axis_name) for x in (losses, group, valid))
    peer = jnp.where(group[:, None] == all_groups, all_valid, 0)
    above = jnp.where(all_losses > losses[:, None], peer, 0).sum(1)
    tied = jnp.where(all_losses == losses[:, None], peer, 0).sum(1)
    tail = alpha * peer.sum(1)
    return valid * safe_divide(jnp.clip(tail - above, 0, tied), tied * tail)
