"""Conditional value at risk of the losses: the worst examples, whoever they are."""

from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.objective import (
    GroupObjective,
    check_examples,
    check_setting,
    global_gather,
    safe_divide,
)


def cvar_dro(*, alpha: float = 0.5) -> GroupObjective:
    """F = CVaR_alpha = mean of the worst share alpha of the losses of all valid examples; no group label is used.

    With k = alpha n and n valid examples, the floor(k) largest losses count in full and the next one for what is left
    of k: F = max of sum_i w_i l_i over 0 <= w_i <= 1/k, sum_i w_i = 1. Examples tied at the threshold share its weight
    equally, so that their order does not matter. alpha = 1 is `erm`; alpha n <= 1 is the largest loss alone.

    Source: Duchi and Namkoong (Annals of Statistics 2021); by batch as here, Levy et al. (NeurIPS 2020). Its
    expectation over batches is below the CVaR of the whole training set, and nears it as the batch grows.

    Example: alpha = 1/2, losses [1, 4, 2, 3, 0]: k = 5/2, the weights are [0, 2/5, 1/5, 2/5, 0], and F = 16/5.

    Args:
        alpha: share of examples, above 0 and at most 1.

    Raises:
        InputError: alpha is out of its range.
    """
    check_setting("alpha", alpha, above=0, most=1)

    def init(counts: jax.Array, patients: jax.Array | None = None) -> tuple[()]:
        del counts, patients
        return ()

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        check_examples(losses, group, mask)
        valid = mask.astype(jnp.result_type(losses))
        return tail_weights(losses, jnp.zeros_like(group), valid, alpha, axis_name), state

    return GroupObjective(init, update)


def tail_weights(
    losses: jax.Array, group: jax.Array, valid: jax.Array, alpha: float, axis_name: str | None = None
) -> jax.Array:
    """dCVaR_alpha/dlosses inside each group; over the global batch, they sum to 1 for each group present.

    Every example is compared with every other, by which ties need no order: b x B numbers, for batches of images a
    trifle.

    Args:
        losses: f32[b], of this device.
        group: i32[b].
        valid: f32[b], 0 for what takes no part.
        alpha: share of each group.
        axis_name: the devices over which the batch is spread.

    Returns:
        f32[b].
    """
    # Computed once: a compiler that did it twice could round it otherwise, and nobody would equal themselves.
    losses = jax.lax.optimization_barrier(losses)
    others, other_group, other_valid = (global_gather(x, axis_name) for x in (losses, group, valid))
    peer = jnp.where(group[:, None] == other_group, other_valid, 0)
    above = jnp.where(others > losses[:, None], peer, 0).sum(1)
    tied = jnp.where(others == losses[:, None], peer, 0).sum(1)
    tail = alpha * peer.sum(1)
    return valid * safe_divide(jnp.clip(tail - above, 0, tied), tied * tail)
