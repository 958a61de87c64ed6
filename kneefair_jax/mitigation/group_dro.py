"""Group distributionally robust optimisation (Sagawa et al., ICLR 2020)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.group_losses import group_losses
from kneefair_jax.mitigation.objective import GroupObjective, check_setting, safe_divide


class GroupDROState(NamedTuple):
    """What a run carries along.

    Attributes:
        log_q: f32[G], logarithm of the groups' weights. Kept as a logarithm, since a weight that has once been rounded
            to 0 could never grow again.
        adjustment: f32[G], C / sqrt(n_g), n_g being training patients.
    """

    log_q: jax.Array
    adjustment: jax.Array

    @property
    def q(self) -> jax.Array:
        """f32[G], the groups' weights; they sum to 1."""
        return jnp.exp(self.log_q)


def group_dro(*, eta: float = 0.1, adjustment: float = 0.0) -> GroupObjective:
    """F = sum over P of sg[q_g] L_g, where q follows the losses by exponentiated gradient ascent.

    The groups present, P, share out the mass they hold: with M = sum_P q,

        q_P <- M softmax_P(log q_P + eta (L_P + C / sqrt(n_P))),

    and absent groups keep q as it is; F takes the new q. q starts equal over the groups that have a training case:
    one without any would hold its mass for ever. The adjustment moves q alone: F, its gradient and whatever is
    reported are made of the raw L_g.

    Differences from the paper and its released code (github.com/kohpangwei/group_DRO):

    * There, an absent group has loss 0 and all of q is normalised, so that q of a rare group decays: with equal losses,
      a share of 18 %, batch 8 and eta 0.1 it ends near 0 where it should stay at 1/2.
    * There, a batch of one group raises that group's q: the paper's algorithm draws one group a step. Here the group
      shares out its mass with nobody, so q never changes where every batch holds one group (batches of one case). A
      run warns of such batches (`training.single_group_batches`).
    * There, the adjustment is added to the losses in place, so that it is in the reported loss as well.
    * C / sqrt(n_g) counts patients here, who are the independent ones, and cases there.

    Take `equal_share` as the sampler: where a group is seldom present, q acts as q_g times that chance. eta has to
    fit the size of the losses (0.05 against 0.07 at eta 0.01 moves q to 0.43 / 0.57 in 1,500 steps): sweep 0.01, 0.1
    and 1. Examples of unknown group have weight 0 and do not move q.

    Example: eta = log 2, q = [1/3, 1/3, 1/3], losses [1, 2] of groups [0, 1]: M = 2/3 is shared out as 2^1 : 2^2, so
    that q = [2/9, 4/9, 1/3], the weights are [2/9, 4/9], and F = 10/9.

    Args:
        eta: step size of q, at least 0.
        adjustment: C of the generalisation adjustment, at least 0.

    Raises:
        InputError: a setting is out of its range.
    """
    check_setting("eta", eta)
    check_setting("adjustment", adjustment)

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
        shares = batch.present & jnp.isfinite(log_q)
        risen = jnp.where(shares, log_q + eta * (batch.mean + state.adjustment), 0)
        mass = jax.nn.logsumexp(jnp.where(shares, log_q, -jnp.inf))
        total = jax.nn.logsumexp(jnp.where(shares, risen, -jnp.inf))
        log_q = jnp.where(shares, risen + mass - total, log_q).astype(log_q.dtype)
        new = state._replace(log_q=log_q)
        return batch.weights(new.q), new

    return GroupObjective(init, update)
