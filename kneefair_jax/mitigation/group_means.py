"""Mean losses, weighted by group or with a penalty on the differences between groups.

`erm`, `reweighted` and `group_balanced` have weights that do not depend on the losses. `gap_penalty` adds the largest
gap between groups to `erm`, and `vrex` the variance of the groups' means to `group_balanced`.
"""

from typing import Any, NamedTuple

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
    weighted_sum,
)
from kneefair_jax.mitigation.registry import register
from kneefair_jax.runtime.schema import Integer, Number

PENALTY = Number(0, 1e12)


@register({"penalty": PENALTY}, compares_groups=True)
def gap_penalty(*, penalty: float = 1.0) -> GroupObjective:
    """F = mean of the losses + lambda (max_P L_g - min_P L_g), P being the groups present in the batch.

    The mean is over all valid examples, those of unknown group included; the gap is over known groups, and 0 when
    fewer than two are present. Groups tied at the largest or at the smallest L_g share its weight equally. When lambda
    is large, the weights of the best group are negative: making that group worse also closes the gap.

    Reference: the max - min penalty of DAMed, applied here to the mean losses of the batch.

    Example: lambda = 1/2, losses [1, 3, 5] of groups [0, 0, 1] have L = [2, 5]; the weights are 1/3 - 1/4, 1/3 - 1/4
    and 1/3 + 1/2, that is [1/12, 1/12, 5/6], and F = 3 + 3/2.

    Args:
        penalty: lambda, at least 0; 0 is `erm`.

    Raises:
        InputError: the penalty is out of its range.
    """

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        losses, group, mask = check_examples(losses, group, mask, state.shape[0])
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        # Computed once: a compiler that recomputed a mean could round it differently, and none would equal the largest.
        mean = jax.lax.optimization_barrier(batch.mean)
        largest = batch.present & (mean == jnp.where(batch.present, mean, -jnp.inf).max())
        smallest = batch.present & (mean == jnp.where(batch.present, mean, jnp.inf).min())
        gap = batch.weights(_equal_shares(largest) - _equal_shares(smallest))
        return mean_weights(losses, mask, axis_name) + penalty * gap, state

    return GroupObjective(training_counts, update)


def _equal_shares(selected: jax.Array) -> jax.Array:
    """bool[G] -> f32[G], 1 over the number of selected groups for each of them, and 0 for the rest."""
    selected = selected.astype(jnp.float32)
    return safe_divide(selected, selected.sum())


class AnnealingState(NamedTuple):
    """The state of `vrex` with `anneal_steps`.

    Attributes:
        counts: i32[G], training cases of each group.
        step: i32[], batches so far.
    """

    counts: jax.Array
    step: jax.Array


@register({"penalty": PENALTY, "anneal_steps": Integer(0, 10_000_000)}, compares_groups=True)
def vrex(*, penalty: float = 1.0, anneal_steps: int = 0) -> GroupObjective:
    """F = mean_P L_g + beta Var_P(L_g), P being the groups present in the batch: risk extrapolation.

    Mean and variance (the population's: divided by |P|) are over groups, so that examples of unknown group have
    weight 0; fewer than two groups have no variance. dF/dL_g = (1 + 2 beta (L_g - mean_P L)) / |P|, which is negative
    for a group with a much lower loss than the rest. F is not linear in the losses: the sum of weights times losses,
    which has F's gradient, is mean_P L_g + 2 beta Var_P(L_g); `value` subtracts beta Var_P(L_g) again.

    Reference: Krueger et al. (ICML 2021), with the mean of the risks in place of their sum. Their experiments anneal:
    beta is 1 in the first `anneal_steps` batches. Their code also divides F by a beta above 1, and some
    reimplementations restart Adam where beta rises; this function does neither.

    Example: beta = 1, losses [1, 3, 5] of groups [0, 0, 1] have L = [2, 5], mean 7/2, variance 9/4; dF/dL = [-1, 2],
    the weights are [-1/2, -1/2, 2], and F = 23/4.

    Args:
        penalty: beta, at least 0; 0 is `group_balanced`.
        anneal_steps: batches with a beta of 1 before it is `penalty`; 0 for none.

    Raises:
        InputError: a setting is out of its range.
    """

    def init(counts: jax.Array, patients: jax.Array | None = None) -> Any:
        counts = training_counts(counts, patients)
        return AnnealingState(counts, jnp.int32(0)) if anneal_steps else counts

    def counts_and_beta(state: Any) -> tuple[jax.Array, float | jax.Array]:
        if not anneal_steps:
            return state, penalty
        return state.counts, jnp.where(state.step < anneal_steps, 1.0, penalty)

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        counts, beta = counts_and_beta(state)
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
        counts, beta = counts_and_beta(state)
        batch = group_losses(losses, group, mask, counts.shape[0], axis_name)
        mean = (batch.share * batch.mean).sum()
        variance = (batch.share * (batch.mean - mean) ** 2).sum()
        return weighted_sum(weights, losses, group, mask, state, axis_name) - beta * variance

    return GroupObjective(init, update, value)


@register(is_linear=True, uses_groups=False)
def erm() -> GroupObjective:
    """F = mean of the losses of all valid examples, whatever their group: empirical risk minimization, the baseline.

    Example: losses [1, 3, 5] with mask [1, 1, 0] get weights [1/2, 1/2, 0], and F = 2.
    """

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        losses, group, mask = check_examples(losses, group, mask)
        return mean_weights(losses, mask, axis_name), state

    return GroupObjective(empty_state, update)


@register(is_linear=True, reweights=True)
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
        losses, group, mask = check_examples(losses, group, mask, state.shape[0])
        valid = mask.astype(jnp.result_type(losses)) * (group >= 0)
        # By membership: -1 is a row of zeros, never group 0. Not a matrix product, which GPUs and TPUs would round.
        weight = (jax.nn.one_hot(group, state.shape[0], dtype=valid.dtype) * state).sum(-1)
        return safe_divide(weight * valid, global_sum(valid, axis_name)), state

    return GroupObjective(init, update)


@register(is_linear=True)
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
