"""Groups weighted by their losses: distributionally robust optimization (group DRO) and fair error-bound scaling."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.objective import (
    GroupObjective,
    group_losses,
    safe_divide,
    training_counts,
)
from kneefair_jax.mitigation.registry import register
from kneefair_jax.runtime.schema import Number


class GroupDROState(NamedTuple):
    """The state of `group_dro`.

    Attributes:
        log_q: f32[G], logarithm of the groups' weights. A weight rounded to 0 could never grow again, so the state
            holds the logarithm.
        adjustment: f32[G], C / sqrt(n_g), n_g being training patients.
    """

    log_q: jax.Array
    adjustment: jax.Array

    @property
    def q(self) -> jax.Array:
        """f32[G], the groups' weights; they sum to 1."""
        return jnp.exp(self.log_q)


# Over 60 lines: forty of them document the differences from the paper and its code.
@register(
    {"eta": Number(0, 1000), "adjustment": Number(0, 1e12)}, compares_groups=True, sampler="equal_share"
)
def group_dro(*, eta: float = 0.1, adjustment: float = 0.0) -> GroupObjective:
    """F = sum over P of sg[q_g] L_g, where q follows the losses by exponentiated gradient ascent.

    The groups present, P, share out the mass they hold: with M = sum_P q,

        q_P <- M softmax_P(log q_P + eta (L_P + C / sqrt(n_P))),

    and absent groups keep their q; F takes the new q. q starts equal over the groups that have a training case,
    because a group without any would hold its mass forever. The adjustment moves q alone: F, its gradient and the
    reported losses use the raw L_g.

    Reference: Sagawa et al. (ICLR 2020). Differences from the paper and its released code
    (github.com/kohpangwei/group_DRO):

    * In the code, an absent group has loss 0 and all of q is normalized, so that q of a rare group decays: with equal
      losses, a share of 18 %, batch 8 and eta 0.1 it ends near 0, where it should stay at 1/2.
    * In the paper, a batch of one group raises that group's q, since its algorithm draws one group a step. Here such a
      group has no other to share its mass with, so q never changes where every batch holds one group (batches of one
      case). A run warns of such batches (`training.setup.single_group_notes`).
    * In the code, the adjustment is added to the losses in place, so that the reported loss includes it.
    * C / sqrt(n_g) counts patients here, who are independent, and cases in the code.

    Use `equal_share` as the sampler: where a group is seldom present, q acts as q_g times that chance. eta has to fit
    the size of the losses (0.05 against 0.07 at eta 0.01 moves q to 0.43 / 0.57 in 1,500 steps): sweep 0.01, 0.1
    and 1. Examples of unknown group have weight 0 and do not move q.

    Example: eta = log 2, q = [1/3, 1/3, 1/3], losses [1, 2] of groups [0, 1]: M = 2/3 is shared out as 2^1 : 2^2, so
    that q = [2/9, 4/9, 1/3], the weights are [2/9, 4/9], and F = 10/9.

    Args:
        eta: step size of q, at least 0.
        adjustment: C of the generalization adjustment, at least 0.

    Raises:
        InputError: a setting is out of its range.
    """

    def init(counts: jax.Array, patients: jax.Array | None = None) -> GroupDROState:
        trained = (jnp.asarray(counts) > 0).astype(jnp.float32)
        patients = jnp.asarray(counts if patients is None else patients, jnp.float32)
        return GroupDROState(
            log_q=jnp.log(safe_divide(trained, trained.sum())),
            adjustment=safe_divide(jnp.float32(adjustment), jnp.sqrt(patients)),
        )

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        log_q = state.log_q
        batch = group_losses(losses, group, mask, log_q.shape[0], axis_name)
        movable = batch.present & jnp.isfinite(log_q)
        raised = jnp.where(movable, log_q + eta * (batch.mean + state.adjustment), 0)
        mass = jax.nn.logsumexp(jnp.where(movable, log_q, -jnp.inf))
        total = jax.nn.logsumexp(jnp.where(movable, raised, -jnp.inf))
        log_q = jnp.where(movable, raised + mass - total, log_q).astype(log_q.dtype)
        new = state._replace(log_q=log_q)
        return batch.weights(new.q), new

    return GroupObjective(init, update)


@register({"power": Number(0, 100)}, compares_groups=True)
def error_bound(*, power: float = 1.0) -> GroupObjective:
    """F = mean over P of w_g L_g, w_g = sg[(L_g / mean_P L)^gamma] scaled to mean 1 over P, the groups present.

    Groups with more error get more weight, which is the intent of the paper; the form here is this project's. The
    paper's released code gives the worst group the smallest weight, and makes every weight 0 when a group is absent.
    Losses must not be negative. Groups whose losses are all 0 get equal weights. Examples of unknown group have
    weight 0.

    Reference: fair error-bound scaling of Tian et al. (FairSeg, ICLR 2024).

    Example: gamma = 1, losses [0, 2, 3] of groups [0, 0, 1] have L = [1, 3] and w = [1/2, 3/2]; the weights are
    [1/8, 1/8, 3/4], and F = 5/2.

    Args:
        power: gamma, at least 0; 0 is `group_balanced`. Below 0 the worst group would get the smallest weight.

    Raises:
        InputError: the power is out of its range.
    """

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        batch = group_losses(losses, group, mask, state.shape[0], axis_name)
        # Relative to the largest: the scale cancels, and no power of a number up to 1 overflows.
        largest = batch.mean.max()
        relative = jnp.where(largest > 0, safe_divide(batch.mean, largest), 1)
        raised = batch.present * relative**power
        return batch.weights(safe_divide(raised, raised.sum())), state

    return GroupObjective(training_counts, update)
